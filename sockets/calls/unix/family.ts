/** AF_UNIX within a thread (unix(7)): its sockets reach each other, and none of the kernel's. */
import { readFileSync } from "node:fs";
import { ERRNO } from "af-xdp-bindings";
import { AF_UNIX, SOCK_DGRAM, SOCK_RAW, SOCK_SEQPACKET, SOCK_STREAM } from "../constants.ts";
import { KernelWatch } from "../events/kernel-watch.ts";
import type { File } from "../file.ts";
import { KernelFile } from "../kernel-file.ts";
import type { Family } from "../process.ts";
import { joinPair } from "./connection.ts";
import { DatagramSocket } from "./datagram.ts";
import { InFlight } from "./in-flight.ts";
import { Names } from "./names.ts";
import { SeqpacketSocket } from "./seqpacket.ts";
import type { UnixSocket } from "./socket.ts";
import { StreamSocket } from "./stream.ts";

/** Types from here on are none: SOCK_MAX. */
const TYPES = 11;
/** Where /proc says nothing. */
const DGRAM_QUEUE_DEFAULT = 10;
const SOMAXCONN_DEFAULT = 4096;

export class UnixFamily implements Family {
  readonly names = new Names();
  readonly inFlight = new InFlight();
  /** net.unix.max_dgram_qlen and net.core.somaxconn, the host's. */
  readonly queueMax = sysctl("unix/max_dgram_qlen", DGRAM_QUEUE_DEFAULT);
  readonly backlogMax = sysctl("core/somaxconn", SOMAXCONN_DEFAULT);
  /** A file of a pidfd_open(2)ed process, for SO_PASSPIDFD. */
  readonly pidFile: (fd: number) => File;

  /** @param watch tells of files of the kernel: that of the process, where it has some */
  constructor(watch = new KernelWatch()) {
    this.pidFile = (fd) => new KernelFile(fd, watch);
  }

  socket(type: number, protocol: number): UnixSocket | number {
    if (type >= TYPES) return -ERRNO.EINVAL;
    if (protocol !== 0 && protocol !== AF_UNIX) return -ERRNO.EPROTONOSUPPORT;
    const socket = this.make(type);
    if (socket === null) return -ERRNO.ESOCKTNOSUPPORT;
    socket.attached = true;
    return socket;
  }

  pair(type: number, protocol: number): readonly [UnixSocket, UnixSocket] | number {
    const a = this.socket(type, protocol);
    const b = this.socket(type, protocol);
    if (typeof a === "number") return a;
    if (typeof b === "number") return b;
    joinPair(a, b);
    return [a, b];
  }

  /** unlink(2) of a path that a socket was bound to: 0, or -ENOENT. The socket keeps the name. */
  unlink(path: string): number {
    return this.names.unlink(path);
  }

  private make(type: number): UnixSocket | null {
    switch (type) {
      case SOCK_STREAM:
        return new StreamSocket(this);
      case SOCK_DGRAM:
      case SOCK_RAW:
        return new DatagramSocket(this);
      case SOCK_SEQPACKET:
        return new SeqpacketSocket(this);
      default:
        return null;
    }
  }
}

function sysctl(name: string, otherwise: number): number {
  try {
    return Number(readFileSync(`/proc/sys/net/${name}`, "utf8"));
  } catch {
    return otherwise;
  }
}
