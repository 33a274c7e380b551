/**
 * What sockets with a send buffer (SO_SNDBUF) have in an lcore's TX rings: which of their bytes to credit when. Frames come
 * back from a port in the order in which it was given them, or nearly, so a count says as much as the frame would, and the
 * frames of other sockets need no note of whose they are.
 */
import type { Port } from "../queues/driver.ts";
import type { RingProducer } from "../queues/ring.ts";
import { M_GENERATION, M_KIND, M_SEND_CHARGE, M_SOCKET, MESSAGE_WORDS, MSG_SENT } from "./message.ts";
import { MessageQueue } from "./queue.ts";
import { GENERATION, type SocketTable } from "./table.ts";
import type { UdpSocket } from "./udp-socket.ts";

/** Word of an entry: frames of its port that were pushed up to it. */
const PUSHED = 3;

/** The end of the socket layer that has the ports. */
export interface LedgerOwner {
  readonly thread: number;
  readonly table: SocketTable;
  readonly sockets: ReadonlyMap<number, UdpSocket>;
  readonly toThread: readonly (RingProducer | null)[];
}

export class SendLedger {
  /** Datagrams under way. */
  count = 0;
  private readonly ports: readonly Port[];
  private readonly owner: LedgerOwner;
  private readonly queues: MessageQueue[];
  private readonly entry = new Int32Array(MESSAGE_WORDS);

  constructor(ports: readonly Port[], owner: LedgerOwner) {
    this.ports = ports;
    this.owner = owner;
    this.queues = ports.map(() => new MessageQueue());
  }

  /** The frame that the port was given last holds so many bytes of a socket; -1: they went another way, at once. */
  add(port: number, socket: number, generation: number, bytes: number): void {
    if (port < 0) {
      this.credit(socket, generation, bytes);
      return;
    }
    const { entry } = this;
    entry[M_SOCKET] = socket;
    entry[M_GENERATION] = generation;
    entry[M_SEND_CHARGE] = bytes;
    entry[PUSHED] = this.ports[port].txPushed;
    this.queues[port].push(entry, 0);
    this.count++;
  }

  /** Credits what the ports have given back. */
  settle(): void {
    for (let p = 0; p < this.queues.length; p++) this.settlePort(this.queues[p], this.ports[p].txDone);
  }

  private settlePort(queue: MessageQueue, done: number): void {
    while (queue.length > 0) {
      const first = queue.peek();
      const { words } = queue;
      if (((done - words[first + PUSHED]) | 0) < 0) return;
      const socket = words[first + M_SOCKET];
      const generation = words[first + M_GENERATION];
      const bytes = words[first + M_SEND_CHARGE];
      if (!this.credit(socket, generation, bytes)) return;
      queue.next();
      this.count--;
    }
  }

  /** Bytes of a socket have left. False: its thread cannot be told now. */
  private credit(socket: number, generation: number, bytes: number): boolean {
    const { sockets, table, thread, toThread } = this.owner;
    if (table.get(socket, GENERATION) !== generation) return true;
    const home = table.home[socket];
    if (home === thread) {
      sockets.get(socket)?.chargeSend(-bytes);
      return true;
    }
    const ring = toThread[home];
    const at = ring === null ? -1 : ring.claim();
    if (at < 0 || ring === null) return false;
    const { words } = ring;
    words[at + M_KIND] = MSG_SENT;
    words[at + M_SOCKET] = socket;
    words[at + M_GENERATION] = generation;
    words[at + M_SEND_CHARGE] = bytes;
    return true;
  }
}
