/**
 * The `pcap` driver: a captured load received again, and what the engine sends in answer written to a capture.
 *
 *   file ──▶ reader ──▶ due? ──▶ rxBurst: copied into a frame of the pool
 *   txPush: copied into a packet block ──▶ buffer ──▶ file
 *
 * Each queue's port reads the whole file and takes the frames that a NIC would have put into its queue. It stands for a
 * wire and the host at its other end, for debugging and benchmarks: reading and writing files takes the lcore's time,
 * so an lcore may now and then wait for a disk.
 */
import { closeSync, openSync, writeSync } from "node:fs";
import { BURST_MAX, type Burst, type Port } from "./driver.ts";
import { interfaceDescription, PACKET_DATA, packetBytes, sectionHeader, writePacket } from "./pcap/blocks.ts";
import { OUTBOUND } from "./pcap/format.ts";
import { openCapture } from "./pcap/reader.ts";
import type { CaptureReader } from "./pcap/record.ts";
import { R, ReplayState } from "./pcap/replay.ts";
import { nanosHigh, nanosLow } from "./pcap/time.ts";
import { FileSink } from "./pcap/writer.ts";
import type { FramePool } from "./pool.ts";
import { rssQueue } from "./rss.ts";

/** Bytes before a received frame's first byte, free for whoever prepends headers (XDP_PACKET_HEADROOM). */
const HEADROOM = 256;
/** Records looked at in one burst: of a file with few frames for this queue, no more hold up the lcore. */
const LOOKS_MAX = 4 * BURST_MAX;
/** Frames pushed and not yet taken back by txComplete(), as a NIC's TX ring would hold. */
const TX_RING = 512;
/** Written with one system call, bytes. */
const WRITE_BYTES = 1 << 18;
const NANO = 1_000_000_000;

export interface PcapPortOptions {
  /** Capture file to receive from: pcap or pcapng, of Ethernet. */
  file: string;
  /** The replay's state, made by ReplayState.create. */
  state: SharedArrayBuffer;
  /** Queue that the port drives, of those that `state` was made for. */
  queue: number;
  ifindex: number;
  /** Address of the host, 6 bytes: frames in the file that come from it were sent, and are not received. */
  mac: Uint8Array;
  /** Times the recorded speed; Infinity: as quickly as the engine takes frames. */
  speed: number;
  /** Times that the file is replayed; Infinity: without end. */
  loops: number;
  /** Hash of a frame, of which rssQueue() makes its queue. */
  hash: (bytes: Uint8Array, offset: number, length: number) => number;
  /** File made by createReplayFile, to which what the engine sends is added; null: it is only counted. */
  write: string | null;
}

/** Makes the file that the ports of a replay write to: an interface a queue. Throws what open(2) says. */
export function createReplayFile(path: string, source: string, queues: number): void {
  const sink = new FileSink(path);
  sink.write(sectionHeader({ application: "lcore", comment: `sent in answer to ${source}` }));
  for (let queue = 0; queue < queues; queue++) {
    const name = `pcap${queue}`;
    const comment = "Stamps are those of the replayed capture, as far as it had come.";
    sink.write(interfaceDescription({ name, description: `queue ${queue}`, comment }));
  }
  sink.close();
}

export class PcapPort implements Port {
  readonly ifindex: number;
  readonly queue: number;
  readonly memory: Uint8Array;
  readonly pool: FramePool;
  readonly fd = -1;
  /** A capture may be from any host, also from one that left checksums to hardware. */
  readonly partialChecksums = true;
  readonly unsent = false;
  readonly txDropped = 0;
  readonly txRefused = 0;
  readonly segmenter = null;
  napiId = 0;
  txDone = 0;

  private readonly state: ReplayState;
  private readonly counts: Float64Array;
  private readonly reader: CaptureReader;
  private readonly fileBytes: Buffer;
  private readonly frames: Buffer;
  private readonly rxMax: number;
  private readonly mac: Uint8Array;
  private readonly speed: number;
  /** Full speed: every frame is due as soon as there is room for it. */
  private readonly atOnce: boolean;
  private readonly loops: number;
  private readonly hash: (bytes: Uint8Array, offset: number, length: number) => number;
  private readonly out: PacketFile | null;
  private begun = false;
  private ended = false;
  /** Whether the reader stands at a frame for this queue that has not been received yet. */
  private ready = false;
  /** The loop's clock at the replay's start, milliseconds. */
  private startMs = 0;
  /** Time of the file's first record, to which the others are relative. */
  private firstSeconds = -1;
  private firstNs = 0;
  /** Where the current pass began, and the latest record so far, nanoseconds from the first record of the first pass. */
  private passNs = 0;
  private latestNs = 0;
  /** When the frame at hand is to be received, and how far the replay has come, in the same unit. */
  private dueNs = 0;
  private clockNs = 0;
  private records = 0;
  /** Frames pushed and not yet back in the pool: the first `flushed` may go back. */
  private readonly pushed = new Int32Array(TX_RING);
  private pushes = 0;
  private flushed = 0;

  /** Opens the files. Throws CaptureFileError, or what open(2) says. */
  constructor(pool: FramePool, memory: Uint8Array, options: PcapPortOptions) {
    const { queue, ifindex, mac, speed, loops, hash, write } = options;
    this.ifindex = ifindex;
    this.queue = queue;
    this.memory = memory;
    this.pool = pool;
    this.state = new ReplayState(options.state);
    this.counts = this.state.row(queue);
    this.reader = openCapture(options.file);
    try {
      this.out = write === null ? null : new PacketFile(write, queue);
    } catch (error) {
      this.reader.close();
      throw error;
    }
    const { bytes } = this.reader.record;
    this.fileBytes = Buffer.from(bytes.buffer as ArrayBuffer, bytes.byteOffset, bytes.length);
    this.frames = Buffer.from(memory.buffer as ArrayBuffer, memory.byteOffset, memory.length);
    this.rxMax = pool.frameSize - HEADROOM;
    this.mac = mac;
    this.speed = speed;
    this.atOnce = speed === Number.POSITIVE_INFINITY;
    this.loops = loops;
    this.hash = hash;
  }

  rxBurst(burst: Burst, now: number): number {
    burst.count = 0;
    if (!this.begun && !this.begin(now)) return 0;
    if (!this.atOnce) this.clockNs = (now - this.startMs) * 1e6 * this.speed;
    for (let looks = 0; looks < LOOKS_MAX && burst.count < BURST_MAX; looks++) {
      if (!this.ready && !this.find()) continue;
      if (!this.isDue() || !this.take(burst)) break;
      this.ready = false;
    }
    return burst.count;
  }

  /** Whether the replay has begun. The clock is that of all ports, whenever each comes to look. */
  private begin(now: number): boolean {
    if (!this.state.begun) return false;
    this.startMs = now - this.state.elapsedMs();
    this.begun = true;
    return true;
  }

  /** Whether it is time for the frame at hand. At full speed it is that frame that moves the clock. */
  private isDue(): boolean {
    if (this.atOnce) this.clockNs = this.dueNs;
    return this.dueNs <= this.clockNs;
  }

  /** Looks at the next record. True: it is a frame to receive here. */
  private find(): boolean {
    if (!this.step()) return false;
    const { record } = this.reader;
    const { offset, length } = record;
    this.records++;
    this.dueNs = this.passNs + this.sinceFirst(record.seconds, record.nanoseconds);
    if (this.dueNs > this.latestNs) this.latestNs = this.dueNs;
    const { queues } = this.state;
    if (queues > 1 && rssQueue(this.hash(record.bytes, offset, length), queues) !== this.queue) return false;
    const reason = this.unfit(offset, length);
    if (reason >= 0) this.counts[reason]++;
    else this.ready = true;
    return this.ready;
  }

  /** Steps to the next record, perhaps the first of another pass. False: there is none now, or none any more. */
  private step(): boolean {
    if (this.ended) return false;
    try {
      if (this.reader.next()) return true;
      this.counts[R.passes]++;
      if (this.reader.rest !== "") this.state.note(this.queue, this.reader.rest);
      if (this.records === 0 || this.counts[R.passes] >= this.loops) {
        this.end();
        return false;
      }
      this.passNs = this.latestNs;
      this.reader.rewind();
    } catch (error) {
      this.state.note(this.queue, (error as Error).message);
      this.end();
    }
    return false;
  }

  private end(): void {
    this.ended = true;
    this.counts[R.ended] = 1;
  }

  private sinceFirst(seconds: number, nanoseconds: number): number {
    if (this.firstSeconds < 0) {
      this.firstSeconds = seconds;
      this.firstNs = nanoseconds;
    }
    return (seconds - this.firstSeconds) * NANO + nanoseconds - this.firstNs;
  }

  /** The count under which the frame at hand is left out, or -1. */
  private unfit(offset: number, length: number): number {
    const { record } = this.reader;
    if (record.direction === OUTBOUND || this.isOwn(offset, length)) return R.sent;
    if (record.originalLength > length) return R.cut;
    return length > this.rxMax ? R.oversize : -1;
  }

  /** Whether a frame's source address is this host's. */
  private isOwn(offset: number, length: number): boolean {
    if (length < 12) return false;
    for (let i = 0; i < 6; i++) if (this.fileBytes[offset + 6 + i] !== this.mac[i]) return false;
    return true;
  }

  /** Receives the frame at hand. False: it has to wait until the pool has a frame. */
  private take(burst: Burst): boolean {
    const frame = this.pool.take();
    if (frame < 0) {
      if (this.atOnce) return false;
      this.counts[R.noFrame]++;
      return true;
    }
    const { offset, length } = this.reader.record;
    const at = frame + HEADROOM;
    this.fileBytes.copy(this.frames, at, offset, offset + length);
    burst.offset[burst.count] = at;
    burst.length[burst.count] = length;
    burst.count++;
    this.counts[R.frames]++;
    this.counts[R.bytes] += length;
    return true;
  }

  txPush(offset: number, length: number): boolean {
    if (this.txRoom === 0) return false;
    this.pushed[this.pushes++] = offset;
    this.counts[R.txFrames]++;
    this.counts[R.txBytes] += length;
    if (this.out !== null) this.write(this.out, offset, length);
    return true;
  }

  /** Writes a frame, stamped with the replay's time: what a clock would show at which the capture was made just now. */
  private write(out: PacketFile, offset: number, length: number): void {
    const total = this.firstNs + this.clockNs;
    const seconds = Math.max(this.firstSeconds, 0) + Math.floor(total / NANO);
    const result = out.put(this.frames, offset, length, seconds, Math.floor(total % NANO));
    if (result !== null) this.state.note(this.queue, result);
    if (out.broken) this.counts[R.txUnwritten]++;
  }

  get txRoom(): number {
    return TX_RING - this.pushes;
  }

  get txPushed(): number {
    return (this.txDone + this.pushes) | 0;
  }

  txFlush(): void {
    this.flushed = this.pushes;
  }

  txComplete(): number {
    const done = this.flushed;
    for (let i = 0; i < done; i++) this.pool.give(this.pushed[i]);
    for (let i = done; i < this.pushes; i++) this.pushed[i - done] = this.pushed[i];
    this.pushes -= done;
    this.txDone = (this.txDone + done) | 0;
    this.flushed = 0;
    return done;
  }

  /** Nothing to do: frames are taken from the pool as they are received. */
  refill(): number {
    return 0;
  }

  /** Nothing to do: there is no NAPI. */
  busyPoll(): void {}

  /** Writes what has been sent, and closes the files. */
  close(): void {
    this.reader.close();
    const result = this.out?.close() ?? null;
    if (result !== null) this.state.note(this.queue, result);
  }
}

/** Packet blocks on their way to a file that several ports write: whole blocks are added at its end at once. */
class PacketFile {
  /** True once the file has taken no more: what follows is lost. */
  broken = false;
  private readonly fd: number;
  private readonly interfaceId: number;
  private readonly bytes: Buffer;
  private readonly words: Int32Array;
  private used = 0;

  constructor(path: string, interfaceId: number) {
    this.fd = openSync(path, "a");
    this.interfaceId = interfaceId;
    const buffer = new ArrayBuffer(WRITE_BYTES);
    this.bytes = Buffer.from(buffer);
    this.words = new Int32Array(buffer);
  }

  /** Adds a packet. Returns why the file takes no more, the first time, else null. */
  put(from: Buffer, offset: number, length: number, seconds: number, nanoseconds: number): string | null {
    if (this.broken) return null;
    const size = packetBytes(length);
    const result = this.used + size > WRITE_BYTES ? this.flush() : null;
    const at = this.used;
    const high = nanosHigh(seconds, nanoseconds);
    writePacket(this.words, at >> 2, this.interfaceId, high, nanosLow(seconds, nanoseconds), length, length, OUTBOUND);
    from.copy(this.bytes, at + PACKET_DATA, offset, offset + length);
    this.used = at + size;
    return result;
  }

  /** Returns what went wrong, or null. */
  close(): string | null {
    const result = this.flush();
    closeSync(this.fd);
    return result;
  }

  private flush(): string | null {
    try {
      for (let at = 0; at < this.used; ) at += writeSync(this.fd, this.bytes, at, this.used - at);
      return null;
    } catch (error) {
      this.broken = true;
      return (error as Error).message;
    } finally {
      this.used = 0;
    }
  }
}
