/**
 * A random walk over several sockets: the same steps on two sides, which have to give the same at each one. What is passed along are
 * sockets that carry nothing themselves, because the kernel collects circles of those in its own time.
 */
import {
  AF_UNSPEC,
  FIONREAD,
  MSG_OOB,
  MSG_PEEK,
  MSG_TRUNC,
  MSG_WAITALL,
  SIOCATMARK,
  SIOCOUTQ,
  SOCK_NONBLOCK,
  SOCK_STREAM,
} from "../../../sockets/calls/constants.ts";
import type { SocketCalls } from "../../../sockets/calls/socket-calls.ts";
import {
  SO_ERROR,
  SO_INQ,
  SO_OOBINLINE,
  SO_PASSCRED,
  SO_PASSPIDFD,
  SO_PASSRIGHTS,
  SO_PASSSEC,
  SO_PEEK_OFF,
  SO_RCVLOWAT,
  SO_SNDBUF,
  SO_TIMESTAMP,
} from "../../../sockets/options.ts";
import { randomFrom } from "./random.ts";
import {
  abstractName,
  bytes,
  closeAll,
  ioctlOf,
  nameOfPeer,
  nameOfSocket,
  optionOf,
  pairOf,
  pattern,
  pollOf,
  rights,
  send,
  setOption,
  socketOf,
  TYPES,
  take,
} from "./tools.ts";

/** Sockets at a time. */
const SOCKETS_MAX = 14;
const NAMES = 5;
const SIZES = [0, 1, 2, 3, 10, 64, 500, 3000, 5000, 20_000, 60_000];
const ROOMS = [0, 1, 2, 5, 64, 700, 4000, 70_000];
const OPTIONS = [
  [SO_PASSCRED, 2],
  [SO_PASSPIDFD, 2],
  [SO_PASSSEC, 2],
  [SO_PASSRIGHTS, 2],
  [SO_OOBINLINE, 2],
  [SO_TIMESTAMP, 2],
  [SO_INQ, 2],
  [SO_PEEK_OFF, 12],
  [SO_RCVLOWAT, 9],
  [SO_SNDBUF, 30_000],
] as const;

/** One side of the walk: the same numbers of sockets on both, whatever their descriptors are. */
export class Walker {
  private readonly calls: SocketCalls;
  private readonly random: (below: number) => number;
  private sockets: number[] = [];
  /** What is passed along. */
  private readonly cargo: number[];
  private steps = 0;

  constructor(calls: SocketCalls, seed: number) {
    this.calls = calls;
    this.random = randomFrom(seed);
    this.cargo = pairOf(calls, SOCK_STREAM);
  }

  /** Does the next thing. Returns what it was and what it gave. */
  step(): unknown[] {
    const { random, calls } = this;
    this.steps++;
    if (this.sockets.length < 4) return ["pair", this.addPair()];
    const fd = this.any();
    switch (random(24)) {
      case 0:
        return ["pair", this.addPair()];
      case 1:
        return ["socket", this.add(socketOf(calls, TYPES[random(TYPES.length)][1]))];
      case 2:
        return ["bind", calls.bind(fd, random(8) === 0 ? bytes(1, 0) : this.name()), nameOfSocket(calls, fd)];
      case 3:
        return ["listen", calls.listen(fd, random(3))];
      case 4:
      case 5:
        return [
          "connect",
          calls.connect(fd, random(6) === 0 ? bytes(AF_UNSPEC, 0) : this.name()),
          nameOfPeer(calls, fd),
        ];
      case 6:
      case 7:
        return ["accept", this.add(calls.accept4(fd, null, SOCK_NONBLOCK))];
      case 8:
        return ["shutdown", random(3) === 0 ? calls.shutdown(fd, random(3)) : "not now"];
      case 9:
        return ["close", random(2) === 0 ? this.close(fd) : "not now"];
      case 10:
      case 11: {
        const [option, below] = OPTIONS[random(OPTIONS.length)];
        return ["option", option, setOption(calls, fd, option, random(below) - (option === SO_PEEK_OFF ? 1 : 0))];
      }
      case 12:
        return ["error", optionOf(calls, fd, SO_ERROR)];
      case 13:
        return ["dup", this.sockets.length < SOCKETS_MAX ? this.add(calls.dup(fd)) : "not now"];
      case 14:
      case 15:
      case 16:
      case 17:
      case 18:
        return ["send", this.send(fd)];
      default:
        return ["receive", this.receive(fd)];
    }
  }

  /** What can be seen of every socket. */
  state(): unknown {
    const { calls } = this;
    return this.sockets.map((fd) => [
      pollOf(calls, fd),
      ioctlOf(calls, fd, FIONREAD),
      ioctlOf(calls, fd, SIOCOUTQ),
      ioctlOf(calls, fd, SIOCATMARK),
    ]);
  }

  end(): void {
    closeAll(this.calls, ...this.sockets, ...this.cargo);
    this.sockets = [];
  }

  private any(): number {
    return this.sockets[this.random(this.sockets.length)];
  }

  private name(): Uint8Array {
    return abstractName(`walk ${this.random(NAMES)}`);
  }

  private add(fd: number): unknown {
    if (fd < 0) return fd;
    if (this.sockets.length < SOCKETS_MAX) this.sockets.push(fd);
    else this.calls.close(fd);
    return "made";
  }

  private addPair(): unknown {
    if (this.sockets.length + 2 > SOCKETS_MAX) return "not now";
    this.sockets.push(...pairOf(this.calls, TYPES[this.random(TYPES.length)][1]));
    return "made";
  }

  private close(fd: number): number {
    this.sockets = this.sockets.filter((other) => other !== fd);
    return this.calls.close(fd);
  }

  private send(fd: number): unknown {
    const { random } = this;
    const size = SIZES[random(SIZES.length)];
    const flags = random(5) === 0 ? MSG_OOB : 0;
    const to = random(4) === 0 ? this.name() : null;
    const control = random(5) === 0 ? [rights(...this.cargo.slice(0, random(3)))] : undefined;
    return [size, flags, send(this.calls, fd, pattern(size, this.steps), { flags, to, control })];
  }

  private receive(fd: number): unknown {
    const { random } = this;
    const flags =
      (random(4) === 0 ? MSG_PEEK : 0) |
      (random(6) === 0 ? MSG_TRUNC : 0) |
      (random(6) === 0 ? MSG_OOB : 0) |
      (random(6) === 0 ? MSG_WAITALL : 0);
    const control = random(3) === 0 ? random(80) : 256;
    const { shown, fds } = take(this.calls, fd, { flags, room: ROOMS[random(ROOMS.length)], control });
    closeAll(this.calls, ...fds);
    return [flags, shown];
  }
}
