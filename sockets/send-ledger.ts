/**
 * What sockets with a send buffer (SO_SNDBUF) have in an lcore's TX rings: which of their bytes to credit when. Frames come
 * back from a port in the order in which it was given them, or nearly, so a count says as much as the frame would, and the
 * frames of other sockets need no note of whose they are.
 */
import type { Port } from "../queues/driver.ts";
import { M_GENERATION, M_SEND_CHARGE, M_SOCKET, MESSAGE_WORDS } from "./message.ts";
import { MessageQueue } from "./queue.ts";

/** Word of an entry: frames of its port that were pushed up to it. */
const PUSHED = 3;

export interface Creditor {
  /** Bytes of a socket have left. False: its thread cannot be told now. */
  creditSend(socket: number, generation: number, bytes: number): boolean;
}

export class SendLedger {
  /** Datagrams under way. */
  count = 0;
  private readonly ports: readonly Port[];
  private readonly creditor: Creditor;
  private readonly queues: MessageQueue[];
  private readonly entry = new Int32Array(MESSAGE_WORDS);

  constructor(ports: readonly Port[], creditor: Creditor) {
    this.ports = ports;
    this.creditor = creditor;
    this.queues = ports.map(() => new MessageQueue());
  }

  /** The frame that the port was given last holds so many bytes of a socket. */
  add(port: number, socket: number, generation: number, bytes: number): void {
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

  /** Those of one socket in a row are credited together. */
  private settlePort(queue: MessageQueue, done: number): void {
    while (queue.length > 0) {
      const first = queue.peek();
      const { words } = queue;
      if (((done - words[first + PUSHED]) | 0) < 0) return;
      const socket = words[first + M_SOCKET];
      const generation = words[first + M_GENERATION];
      const bytes = words[first + M_SEND_CHARGE];
      if (!this.creditor.creditSend(socket, generation, bytes)) return;
      queue.next();
      this.count--;
    }
  }
}
