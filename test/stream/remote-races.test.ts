/**
 * Threads and lcores that have their turns in any order, with rings of a few slots, few frames, little memory: what goes in
 * comes out, and in the end nothing is left. LCORE_TCP_SEEDS=1000 for more runs, LCORE_TCP_SEED=17 for one; both: so many from
 * that one on.
 */
import { describe, expect, test } from "bun:test";
import { ERRNO } from "af-xdp-bindings";
import { Random } from "../../queues/random.ts";
import type { TcpListener } from "../../sockets/stream/tcp-listener.ts";
import type { TcpHandlers, TcpSocket } from "../../sockets/stream/tcp-socket.ts";
import {
  abortSocket,
  bind,
  close,
  listen,
  openSocket,
  receive,
  SHUT_WR,
  send,
  shutdown,
} from "../../sockets/tcp/calls.ts";
import type { Tcp } from "../../sockets/tcp/core.ts";
import { accept } from "../../sockets/tcp/listen.ts";
import { OPTIONS, setOption } from "../../sockets/tcp/sockopts.ts";
import { ESTABLISHED, STATE, TCB_WORDS } from "../../sockets/tcp/tcb.ts";
import { FrameViews } from "../../sockets/wire/views.ts";
import { streamByte } from "../tcp/segments.ts";
import { HandDriven, THEIRS } from "./hand-driven.ts";

const PEER_PORT = 81;
const KEEPALIVE = [
  [OPTIONS.SO_KEEPALIVE, 1],
  [OPTIONS.TCP_KEEPIDLE, 1],
  [OPTIONS.TCP_KEEPINTVL, 1],
] as const;
const TURNS_MAX = 400_000;

/** One end's use of a connection: it writes `total` bytes, reads what comes, and ends it one way or another. */
interface Use {
  total: number;
  sent: number;
  received: number;
  /** 0: in order; 1: by abort, 2: by close(), at some time. */
  ending: number;
  ended: boolean;
  over: boolean;
}

const pick = <T>(random: Random, choices: readonly T[]): T => choices[random.below(choices.length)];

function newUse(random: Random): Use {
  const ending = random.below(5) === 0 ? 1 + random.below(2) : 0;
  return { total: pick(random, [0, 1, 300, 5000, 40_000]), sent: 0, received: 0, ending, ended: false, over: false };
}

class Play {
  readonly rig: HandDriven;
  readonly random: Random;
  readonly ours = new Map<TcpSocket, Use>();
  readonly theirs = new Map<number, Use>();
  readonly buffer = new FrameViews(new Uint8Array(8192));
  readonly listener: TcpListener;
  readonly peerListener: number;
  private readonly frames: number;
  /** Connections of either side that came to their end as they should. */
  whole = 0;
  /** Connections that applications have used. */
  adopted = 0;

  constructor(seed: number) {
    this.random = new Random(seed);
    const { random } = this;
    this.rig = new HandDriven(seed, {
      ringSlots: pick(random, [2, 4, 16, 256]),
      frames: pick(random, [1, 3, 64]),
      frameSize: pick(random, [128, 2048]),
      lossPercent: pick(random, [0, 0, 3]),
      tcp: {
        ...pick(random, [{}, { bufferBytes: 32_768, pressureBytes: 16_384 }]),
        timeWaitMs: 1000,
        chunkBytes: pick(random, [256, 2048]),
      },
    });
    this.peerListener = openSocket(this.rig.peer, false);
    bind(this.rig.peer, this.peerListener, THEIRS, PEER_PORT);
    listen(this.rig.peer, this.peerListener, 8, false);
    const { ended, closed } = this.handlers;
    this.listener = this.rig.listen(random.below(2) === 0 ? this.handlers : { ended, closed }, 3);
    this.frames = this.rig.loans.length;
  }

  readonly handlers: TcpHandlers = {
    open: (socket) => {
      if (!this.ours.has(socket)) this.adopt(socket);
    },
    ended: (socket) => this.finishReading(socket),
    closed: (socket) => {
      const use = this.ours.get(socket);
      if (use !== undefined) use.over = true;
    },
  };

  /** Who waits for a peer whose RST was lost hears of it. */
  private adopt(socket: TcpSocket): void {
    this.adopted++;
    this.ours.set(socket, newUse(this.random));
    for (const [option, value] of KEEPALIVE) expect(socket.setOption(option, value)).toBe(0);
  }

  private adoptTheirs(id: number): void {
    this.adopted++;
    this.theirs.set(id, newUse(this.random));
    for (const [option, value] of KEEPALIVE) expect(setOption(this.rig.peer, id, option, value)).toBe(0);
  }

  private finishReading(socket: TcpSocket): void {
    const use = this.ours.get(socket);
    if (use !== undefined) use.ended = true;
  }

  /** Something that an application does with one of its sockets. */
  use(socket: TcpSocket, use: Use): void {
    const { buffer, random } = this;
    if (use.ending !== 0 && random.below(60) === 0) {
      if (use.ending === 1) socket.abort();
      else socket.close();
      this.ours.delete(socket);
      return;
    }
    if (use.sent < use.total && random.below(2) === 0) {
      const count = Math.min(use.total - use.sent, 1 + random.below(random.below(2) === 0 ? 50 : 6000));
      for (let i = 0; i < count; i++) buffer.bytes[i] = streamByte(use.sent + i);
      const taken = socket.write(buffer.bytes, 0, count);
      if (taken > 0) use.sent += taken;
      if (use.sent === use.total && use.ending === 0) socket.shutdown(SHUT_WR);
    } else if (random.below(3) === 0) this.peekAt(socket, use);
    else this.readFrom(socket, use);
    if (use.total === 0 && use.sent === 0 && use.ending === 0) {
      use.sent = -1;
      socket.shutdown(SHUT_WR);
    }
    if (!use.over) return;
    this.drain(socket, use);
    socket.close();
    this.ours.delete(socket);
    if (use.ended) this.whole++;
  }

  private drain(socket: TcpSocket, use: Use): void {
    for (let count = socket.peek(); count > 0; count = socket.peek()) {
      this.compare(socket.peekedBytes, socket.peekedOffset, count, use);
      socket.consume(count);
    }
  }

  private peekAt(socket: TcpSocket, use: Use): void {
    const count = Math.min(socket.peek(), 1 + this.random.below(3000));
    if (count <= 0) return;
    const before = use.received;
    this.compare(socket.peekedBytes, socket.peekedOffset, count, use);
    // Where nobody has written before, what has come may be sent back as it lies: the streams are the same.
    if (use.sent === before && use.sent + count <= use.total && this.random.below(2) === 0) {
      const taken = socket.echo(count);
      if (taken >= 0) {
        use.sent += taken;
        use.received = before + taken;
        if (use.sent === use.total && use.ending === 0 && taken > 0) socket.shutdown(SHUT_WR);
        return;
      }
      use.received = before;
      return;
    }
    socket.consume(count);
  }

  private readFrom(socket: TcpSocket, use: Use): void {
    const into = this.buffer.bytes;
    const count = socket.read(into, 0, 1 + this.random.below(5000));
    if (count > 0) this.compare(into, 0, count, use);
  }

  private compare(bytes: Uint8Array, offset: number, count: number, use: Use): void {
    for (let i = 0; i < count; i++)
      if (bytes[offset + i] !== streamByte(use.received + i)) throw new Error(`byte ${use.received + i} is another`);
    use.received += count;
  }

  /** The same of the peer. */
  useTheirs(id: number, use: Use): void {
    const { buffer, random } = this;
    const { peer } = this.rig;
    if (use.ending !== 0 && random.below(60) === 0) {
      if (use.ending === 1) abortSocket(peer, id);
      else close(peer, id);
      this.theirs.delete(id);
      return;
    }
    if (use.sent < use.total && random.below(2) === 0) {
      const count = Math.min(use.total - use.sent, 1 + random.below(4000));
      for (let i = 0; i < count; i++) buffer.bytes[i] = streamByte(use.sent + i);
      const taken = send(peer, id, buffer, 0, count, 0);
      if (taken > 0) use.sent += taken;
      else if (taken !== -ERRNO.EAGAIN) use.over = true;
    }
    if (use.sent >= use.total && use.ending === 0 && shutdown(peer, id, SHUT_WR) === 0) use.sent = use.total;
    const got = receive(peer, id, buffer, 0, 1 + random.below(4000), 0);
    if (got > 0) this.compare(buffer.bytes, 0, got, use);
    else if (got === 0 && use.sent === use.total && use.ending === 0) use.over = true;
    else if (got < 0 && got !== -ERRNO.EAGAIN) use.over = true;
    if (!use.over) return;
    close(peer, id);
    this.theirs.delete(id);
  }

  /** The applications' turn: they accept what has come, and use what they have. */
  private applications(): void {
    const { listener, peerListener } = this;
    const { peer } = this.rig;
    for (let id = accept(peer, peerListener); id >= 0; id = accept(peer, peerListener)) this.adoptTheirs(id);
    for (let socket = listener.accept(); socket !== null; socket = listener.accept()) this.adopt(socket);
    for (const [socket, use] of this.ours) this.use(socket, use);
    for (const [id, use] of this.theirs) this.useTheirs(id, use);
  }

  private get inUse(): number {
    return this.ours.size + this.theirs.size;
  }

  /** Plays `total` connections, half of them the peer's. */
  run(total: number): void {
    const { random, rig } = this;
    let begun = 0;
    for (let turn = 0; turn < TURNS_MAX; turn++) {
      if (begun < total && this.inUse < 12 && random.below(20) === 0) {
        if (begun++ % 2 === 0) this.adoptTheirs(rig.peerConnect());
        else this.connect();
      }
      if (random.below(2) === 0) rig.lcoreTurn();
      if (random.below(2) === 0) rig.threadTurn();
      if (random.below(3) === 0) rig.publish();
      this.applications();
      if (begun === total && this.inUse === 0) return;
    }
    throw new Error(
      `${this.ours.size} of ours and ${this.theirs.size} of theirs are not done: ${JSON.stringify([...this.ours.values(), ...this.theirs.values()])}`,
    );
  }

  connect(): TcpSocket {
    const socket = this.rig.remote.open(false, this.handlers);
    if (socket === null) throw new Error("no draft");
    expect(socket.end.connect(socket, THEIRS, PEER_PORT)).toBe(-ERRNO.EINPROGRESS);
    this.adopt(socket);
    return socket;
  }

  /**
   * Until all that was closed has ended. Applications go on: whoever has left may have opened a connection that its peer
   * accepts only now, and one that is reset while it waits for that stays in the accept queue (as in Linux).
   */
  settle(): void {
    const { lcore, peer, remote } = this.rig;
    for (let turn = 0; turn < 20_000; turn++) {
      if (this.inUse === 0 && lcore.open === 1 && peer.open === 1 && remote.count === 1) return;
      this.turn();
      this.rig.now += 100_000;
      this.applications();
    }
  }

  /** A turn of lcore and thread, without applications. */
  turn(): void {
    this.rig.lcoreTurn();
    this.rig.threadTurn();
    this.rig.publish();
  }

  expectNothingLeft(): void {
    const { lcore, loans, peer, remote, service } = this.rig;
    expect(this.inUse).toBe(0);
    // The listeners are left.
    expect([lcore.open, peer.open, lcore.chunks.used, peer.chunks.used]).toEqual([1, 1, 0, 0]);
    expect([loans.length, remote.count, service.isBehind]).toEqual([this.frames, 1, false]);
  }
}

const firstSeed = process.env.LCORE_TCP_SEED;
const seeds = Number(process.env.LCORE_TCP_SEEDS ?? (firstSeed === undefined ? 60 : 1));

/** Plays with so many seeds. */
function playEach(first: number, count: number, play: (play: Play) => void): void {
  for (let seed = first; seed < first + count; seed++) {
    try {
      play(new Play(seed));
    } catch (error) {
      throw new Error(`seed ${seed}: ${(error as Error).message}`, { cause: error });
    }
  }
}

test(`${seeds} runs: every byte comes, nothing is left`, () => {
  let whole = 0;
  playEach(Number(firstSeed ?? 1), seeds, (play) => {
    play.run(30);
    play.settle();
    play.expectNothingLeft();
    whole += play.whole;
  });
  expect(whole).toBeGreaterThan(seeds * 10);
}, 120_000);

/** Turns until a connection of `opener` is open there, and its peer knows nothing of that yet. */
function turnUntilOpen(play: Play, opener: Tcp): void {
  for (let turn = 0; turn < TURNS_MAX; turn++) {
    for (let c = 0; c < opener.scratch; c += TCB_WORDS) if (opener.w[c + STATE] === ESTABLISHED) return;
    play.turn();
  }
  throw new Error("it does not open");
}

describe("reset by who has opened it, before it is accepted, when nobody has any other: accepted, and nothing is left", () => {
  const plays = 30;

  test("by the thread", () => {
    let accepted = 0;
    playEach(1, plays, (play) => {
      const socket = play.connect();
      turnUntilOpen(play, play.rig.lcore);
      socket.abort();
      play.ours.delete(socket);
      play.settle();
      play.expectNothingLeft();
      accepted += play.adopted - 1;
    });
    // Where the wire loses the handshake's end, there is nothing to accept.
    expect(accepted).toBeGreaterThan(plays - 3);
  });

  test("by the peer", () => {
    let accepted = 0;
    playEach(1, plays, (play) => {
      const id = play.rig.peerConnect();
      turnUntilOpen(play, play.rig.peer);
      abortSocket(play.rig.peer, id);
      play.settle();
      play.expectNothingLeft();
      accepted += play.adopted;
    });
    expect(accepted).toBeGreaterThan(plays - 3);
  });
});
