/** A way for packets of many segments that cuts them itself, as the kernel does (tcp_gso_segment), and sends the parts by a TestSink. */
import { GSO_FULL, GSO_REFUSED, GSO_SENT, type GsoSink } from "../../sockets/tcp/core.ts";
import { IPV4_HEADER } from "../../sockets/wire/ipv4.ts";
import { IPV6_HEADER } from "../../sockets/wire/ipv6.ts";
import { TCP_CWR, TCP_FIN, TCP_FLAGS, TCP_PSH, TCP_SEQ } from "../../sockets/wire/tcp.ts";
import { type FrameViews, readInt32, writeInt32 } from "../../sockets/wire/views.ts";
import { FRAME_MAX, IP_AT, type TestSink } from "./segments.ts";

const PIECES_MAX = 64;

export class TestGso implements GsoSink {
  /** The chunks' memory: the Tcp's, once there is one. */
  memory: FrameViews | null = null;
  /** Payload bytes of each packet sent, and of a segment of it. */
  readonly sent: [payload: number, size: number][] = [];
  /** Says now and then GSO_FULL or GSO_REFUSED. */
  answers: (() => number) | null = null;
  private readonly sink: TestSink;
  private readonly pieces: [offset: number, length: number][] = [];

  constructor(sink: TestSink) {
    this.sink = sink;
  }

  room(): number {
    return FRAME_MAX - 512;
  }

  begin(v6: boolean): number {
    this.pieces.length = 0;
    return tcpAt(v6);
  }

  add(offset: number, length: number): boolean {
    if (length <= 0) throw new Error(`a piece of ${length} bytes`);
    return this.pieces.push([offset, length]) <= PIECES_MAX;
  }

  send(header: number, payload: number, size: number, words: Int32Array, at: number, v6: boolean, tos: number): number {
    const answer = this.answers?.() ?? GSO_SENT;
    if (answer === GSO_FULL || answer === GSO_REFUSED) return answer;
    this.sent.push([payload, size]);
    const { bytes } = this.sink.views;
    const tcp = tcpAt(v6);
    const headers = bytes.slice(tcp, tcp + header);
    const flags = headers[TCP_FLAGS];
    const data = this.gathered(payload);
    let done = 0;
    do {
      const count = Math.min(size, payload - done);
      const isLast = done + count === payload;
      bytes.set(headers, tcp);
      bytes.set(data.subarray(done, done + count), tcp + header);
      writeInt32(bytes, tcp + TCP_SEQ, (readInt32(headers, TCP_SEQ) + done) | 0);
      bytes[tcp + TCP_FLAGS] = flags & ~(isLast ? 0 : TCP_FIN | TCP_PSH) & ~(done === 0 ? 0 : TCP_CWR);
      this.sink.send(tcp, header + count, words, at, v6, tos);
      done += count;
    } while (done < payload);
    return GSO_SENT;
  }

  private gathered(payload: number): Uint8Array {
    const memory = (this.memory as FrameViews).bytes;
    const data = Buffer.concat(this.pieces.map(([offset, length]) => memory.subarray(offset, offset + length)));
    if (data.length !== payload) throw new Error(`pieces of ${data.length} bytes, not ${payload}`);
    return data;
  }
}

const tcpAt = (v6: boolean): number => IP_AT + (v6 ? IPV6_HEADER : IPV4_HEADER);
