/** What to do about the errors of an XSK's set-up, by errno name. Read only when a call has failed. */
import type { ErrnoName } from "./errno.ts";

export type Hints = Partial<Record<ErrnoName, string>>;

/** socket(AF_XDP). */
export const SOCKET_HINTS: Hints = {
  EPERM: "needs CAP_NET_RAW in the user namespace of the network namespace: run as root, or setcap cap_net_raw+ep",
  EAFNOSUPPORT: "this kernel is built without CONFIG_XDP_SOCKETS",
  EMFILE: "out of file descriptors: raise RLIMIT_NOFILE",
};

/** setsockopt of a ring's size. */
export const RING_HINTS: Hints = {
  EINVAL: "ring sizes are powers of two",
  ENOMEM: "no kernel memory for the ring: use a smaller one",
};

/** setsockopt(XDP_MAX_TX_SKB_BUDGET). */
export const BUDGET_HINTS: Hints = {
  EACCES: "the budget lies between 32 and the TX ring's size",
  ENOPROTOOPT: "needs Linux 6.17",
};

/** setsockopt of the busy-poll options. */
export const BUSY_POLL_HINTS: Hints = {
  EPERM: "raising SO_BUSY_POLL or SO_BUSY_POLL_BUDGET and setting SO_PREFER_BUSY_POLL need CAP_NET_ADMIN",
  ENOPROTOOPT: "needs Linux 5.11 with CONFIG_NET_RX_BUSY_POLL",
  EINVAL: "microseconds from 0, budget from 0 to 65535",
};

/** setsockopt(XDP_UMEM_REG) of a UMEM of so many bytes. */
export const umemHints = (byteLength: number): Hints => ({
  ENOBUFS:
    `pinning the UMEM needs ${byteLength} more bytes of RLIMIT_MEMLOCK (ulimit -l ${Math.ceil(byteLength / 1024)} plus ` +
    "what the user has pinned already) or CAP_IPC_LOCK",
  ENOMEM: `no memory to pin ${byteLength} bytes: use fewer chunks`,
  EINVAL: "this kernel does not know an option of the UMEM (unaligned 5.4, txMetadata and softwareChecksum 6.8)",
});

/** bind(AF_XDP) to a queue of an interface. */
export const bindHints = (ifindex: number, queue: number, waitedMs: number): Hints => ({
  EBUSY: `another socket holds queue ${queue} of interface ${ifindex}, and did for ${waitedMs} ms: close it, or wait longer`,
  ENODEV: `no interface has index ${ifindex} in this network namespace`,
  EINVAL: `interface ${ifindex} has no queue ${queue}, or this kernel does not know a bind flag (multiBuffer needs 6.6)`,
  EOPNOTSUPP: `the driver of interface ${ifindex} has no zero copy, at least not for this UMEM: use mode "auto" or "copy"`,
  EBADF: "the socket whose UMEM was to be shared is no longer bound",
  ENOTSOCK: "registeredAt is not a socket",
  ENOPROTOOPT: "registeredAt is not an XSK",
  ENOMEM: "no kernel memory for the buffer pool: use fewer chunks",
  ENETDOWN: `interface ${ifindex} is down`,
});
