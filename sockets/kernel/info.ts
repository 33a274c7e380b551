/** What the kernel knows of a socket and says when it is asked (getsockopt(2)). */
import { sys } from "af-xdp-bindings";
import { C } from "../counters.ts";
import { SO_INCOMING_CPU, SO_INCOMING_NAPI_ID, SO_MEMINFO, SOL_SOCKET } from "../options.ts";
import { DROPS, PLACEHOLDER, type SocketTable } from "../table.ts";
import type { UdpSocket } from "../udp-socket.ts";
import type { KernelSocket } from "./socket.ts";

/** struct: nine numbers of 32 bits, the last the count of drops (include/uapi/linux/sock_diag.h). */
const MEMINFO_WORDS = 9;
const SK_MEMINFO_DROPS = 8;

export class KernelInfo {
  private readonly table: SocketTable;
  private readonly counters: Float64Array;
  private readonly option = new Int32Array(MEMINFO_WORDS);

  constructor(table: SocketTable, counters: Float64Array) {
    this.table = table;
    this.counters = counters;
  }

  /** SO_INCOMING_CPU: where the last datagram of the socket was received; -1 before the first. */
  incomingCpu(socket: UdpSocket): number {
    return this.ask(socket, SO_INCOMING_CPU);
  }

  /** SO_INCOMING_NAPI_ID, 0 before the first datagram. */
  incomingNapiId(socket: UdpSocket): number {
    return Math.max(this.ask(socket, SO_INCOMING_NAPI_ID), 0);
  }

  /** Takes over what the kernel has dropped at the socket since the last time. */
  takeDrops(state: KernelSocket): void {
    state.read = false;
    const { option, table } = this;
    if (sys.getsockopt(state.fd, SOL_SOCKET, SO_MEMINFO, option) < MEMINFO_WORDS * 4) return;
    const drops = (option[SK_MEMINFO_DROPS] - state.drops) | 0;
    state.drops = option[SK_MEMINFO_DROPS];
    if (drops <= 0) return;
    this.counters[C.UdpRcvbufErrors] += drops;
    Atomics.add(table.records, state.id * table.stride + DROPS, drops);
  }

  private ask(socket: UdpSocket, name: number): number {
    this.option[0] = -1;
    sys.getsockoptInt(this.table.get(socket.id, PLACEHOLDER), SOL_SOCKET, name, this.option);
    return this.option[0];
  }
}
