/** Every item that socket(7) names, and what stands for it in traces. docs/socket7.md has a row for each. */

export interface PageItem {
  /** As the page calls it. */
  readonly item: string;
  /** Names in traces (trace.ts); default the item itself. */
  readonly traced?: readonly string[];
  /** Tests beside the scenarios, from the root. */
  readonly tests?: readonly string[];
  /** Why the kernel alone has it. */
  readonly kernelOnly?: string;
  /** Where it differs for another reason than those in explained.ts, or what to know. */
  readonly note?: string;
}

export interface PageSection {
  readonly title: string;
  readonly items: readonly PageItem[];
}

const plain = (...items: string[]): PageItem[] => items.map((item) => ({ item }));

export const PAGE: readonly PageSection[] = [
  {
    title: "Calls",
    items: [
      ...plain("socket", "connect", "bind", "listen", "accept", "socketpair"),
      { item: "send, sendto", traced: ["send"] },
      ...plain("sendmsg"),
      { item: "recv, recvfrom", traced: ["recv"] },
      ...plain("recvmsg", "poll", "select", "write", "writev", "read", "readv"),
      { item: "sendfile", traced: [], kernelOnly: "it copies between descriptors of the kernel" },
      ...plain("getsockname", "getpeername", "getsockopt", "setsockopt", "ioctl", "close", "shutdown"),
      { item: "seeking, pread, pwrite", traced: ["lseek", "pread", "pwrite"] },
      {
        item: "O_NONBLOCK: EAGAIN, EINPROGRESS",
        traced: ["F_SETFL", "FIONBIO"],
        note: "connect() gives EINPROGRESS for TCP alone",
      },
      {
        item: "sockaddr, sockaddr_storage",
        traced: ["getsockname", "getpeername"],
        tests: ["test/calls/sockaddr.test.ts"],
      },
    ],
  },
  {
    title: "Events and signals",
    items: [
      ...plain("POLLIN", "POLLOUT", "POLLHUP", "POLLERR", "POLLPRI", "POLLRDHUP"),
      { item: "SIGIO: O_ASYNC, F_SETOWN, F_SETSIG", traced: ["SIGIO"] },
      ...plain("SIGURG", "SIGPIPE"),
      { item: "epoll", traced: ["epoll_create1", "epoll_ctl", "epoll_wait"] },
    ],
  },
  {
    title: "Options",
    items: [
      ...plain("SO_ACCEPTCONN"),
      { item: "SO_ATTACH_FILTER", tests: ["test/options/filter-options.test.ts", "test/stream/filter.test.ts"] },
      { item: "SO_ATTACH_BPF", tests: ["test/options/filter-options.test.ts"] },
      { item: "SO_ATTACH_REUSEPORT_CBPF", tests: ["test/options/filter-options.test.ts"] },
      { item: "SO_ATTACH_REUSEPORT_EBPF", tests: ["test/options/filter-options.test.ts"] },
      { item: "SO_BINDTODEVICE", note: "the name is looked up by the kernel: ENODEV on a wire in memory" },
      ...plain("SO_BROADCAST", "SO_BSDCOMPAT", "SO_DEBUG"),
      {
        item: "SO_DETACH_FILTER, SO_DETACH_BPF",
        traced: ["SO_DETACH_FILTER"],
        tests: ["test/options/filter-options.test.ts"],
      },
      ...plain("SO_DOMAIN", "SO_ERROR"),
      { item: "SO_DONTROUTE", tests: ["test/options/tcp-way.test.ts"] },
      { item: "SO_INCOMING_CPU", tests: ["test/sockets/lookup.test.ts"] },
      { item: "SO_INCOMING_NAPI_ID", tests: ["test/e2e/queues.test.ts"] },
      ...plain("SO_KEEPALIVE", "SO_LINGER"),
      { item: "SO_LOCK_FILTER", tests: ["test/options/filter-options.test.ts"] },
      { item: "SO_MARK", tests: ["test/options/mark.test.ts", "test/options/tcp-way.test.ts"] },
      ...plain("SO_OOBINLINE", "SO_PASSCRED", "SO_PASSSEC", "SO_PEEK_OFF", "SO_PEERCRED", "SO_PEERSEC"),
      { item: "SO_PRIORITY", tests: ["test/options/mark.test.ts", "test/options/tcp-way.test.ts"] },
      ...plain("SO_PROTOCOL", "SO_RCVBUF", "SO_RCVBUFFORCE"),
      { item: "SO_RCVLOWAT, SO_SNDLOWAT", traced: ["SO_RCVLOWAT", "SO_SNDLOWAT"] },
      { item: "SO_RCVTIMEO, SO_SNDTIMEO", traced: ["SO_RCVTIMEO", "SO_SNDTIMEO"] },
      ...plain("SO_REUSEADDR"),
      { item: "SO_REUSEPORT", tests: ["test/sockets/lookup.test.ts", "test/sockets/table.test.ts"] },
      { item: "SO_RXQ_OVFL", tests: ["test/options/ovfl.test.ts"] },
      ...plain("SO_SELECT_ERR_QUEUE"),
      { item: "SO_SNDBUF", tests: ["test/options/sndbuf.test.ts"] },
      ...plain("SO_SNDBUFFORCE", "SO_TIMESTAMP", "SO_TIMESTAMPNS", "SO_TYPE", "SO_BUSY_POLL"),
    ],
  },
  {
    title: "Ioctls",
    items: [
      { item: "SIOCGSTAMP", traced: ["SIOCGSTAMP", "SIOCGSTAMPNS"] },
      ...plain("SIOCSPGRP", "FIOASYNC", "SIOCGPGRP", "FIOGETOWN", "FIOSETOWN", "SIOCATMARK"),
      { item: "SIOCINQ", traced: ["FIONREAD", "SIOCINQ"] },
      ...plain("SIOCOUTQ"),
    ],
  },
  {
    title: "/proc/sys/net/core",
    items: [
      { item: "rmem_default, wmem_default", traced: [], tests: ["test/calls/sysctl.test.ts"] },
      { item: "rmem_max, wmem_max", traced: [], tests: ["test/calls/sysctl.test.ts"] },
      {
        item: "message_cost, message_burst",
        traced: [],
        tests: ["test/calls/sysctl.test.ts"],
        kernelOnly: "they limit what the kernel writes to its log; told, and not taken (EOPNOTSUPP)",
      },
      {
        item: "netdev_max_backlog",
        traced: [],
        tests: ["test/calls/sysctl.test.ts"],
        kernelOnly: "the kernel's queue before its own stack; told, and not taken (EOPNOTSUPP)",
      },
      { item: "optmem_max", traced: [], tests: ["test/calls/sysctl.test.ts", "test/options/filter-options.test.ts"] },
    ],
  },
];
