/** Datagrams from kernel sockets into the queues of sockets without a handler. */
import { C } from "../counters.ts";
import type { Endpoint } from "../endpoint.ts";
import {
  M_CHARGE,
  M_DROPS,
  M_FRAME,
  M_GENERATION,
  M_HOME,
  M_KIND,
  M_L3,
  M_L4,
  M_LENGTH,
  M_NANOSECONDS,
  M_PAYLOAD,
  M_PAYLOAD_LENGTH,
  M_PORT,
  M_SECONDS,
  M_SEGMENT,
  M_SOCKET,
  MESSAGE_WORDS,
  MSG_DELIVER,
} from "../message.ts";
import { CHARGE_OVERHEAD } from "../queue.ts";
import { DROPS, GENERATION, type SocketTable } from "../table.ts";
import { UDP_HEADER } from "../wire/udp.ts";
import type { Receiver } from "./receiver.ts";

export class KernelQueues {
  private readonly endpoint: Endpoint;
  private readonly table: SocketTable;
  private readonly counters: Float64Array;
  private readonly message = new Int32Array(MESSAGE_WORDS);

  constructor(endpoint: Endpoint) {
    this.endpoint = endpoint;
    this.table = endpoint.table;
    this.counters = endpoint.counters;
    this.message[M_KIND] = MSG_DELIVER;
    this.message[M_HOME] = 0;
    this.message[M_PORT] = 0;
  }

  /** Queues the datagram that `receiver` has decoded, and takes its frame. `bounded`: as far as the receive buffer goes. */
  push(receiver: Receiver, socket: number, bounded: boolean): void {
    const { counters, message, table } = this;
    const reader = this.endpoint.sockets.get(socket);
    if (reader === undefined) {
      counters[C.UdpNoPorts]++;
      return;
    }
    const charge = bounded ? receiver.length + UDP_HEADER + CHARGE_OVERHEAD : 0;
    if (bounded && !table.hasRoom(socket, charge)) {
      counters[C.UdpRcvbufErrors]++;
      Atomics.add(table.records, socket * table.stride + DROPS, 1);
      return;
    }
    table.charge(0, socket, charge);
    message[M_SOCKET] = socket;
    message[M_GENERATION] = table.get(socket, GENERATION);
    message[M_FRAME] = receiver.ip;
    message[M_LENGTH] = receiver.payload + receiver.length - receiver.ip;
    message[M_L3] = receiver.ip;
    message[M_L4] = receiver.udp;
    message[M_PAYLOAD] = receiver.payload;
    message[M_PAYLOAD_LENGTH] = receiver.length;
    message[M_CHARGE] = charge;
    message[M_SECONDS] = receiver.seconds;
    message[M_NANOSECONDS] = receiver.nanoseconds;
    message[M_DROPS] = receiver.drops;
    message[M_SEGMENT] = receiver.segment;
    reader.queue.push(message, 0);
    receiver.giveAway();
    counters[C.UdpInDatagrams]++;
  }
}
