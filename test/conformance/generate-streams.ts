/**
 * Scenarios of TCP made by the dozen: every option at every value and length in states that tell them apart, and sequences of calls
 * drawn from a seed. What a sequence does to its peer is not asked for: how fast that hears of it is no part of the story.
 */
import {
  MSG_NOSIGNAL,
  MSG_OOB,
  MSG_PEEK,
  MSG_TRUNC,
  SHUT_RD,
  SIOCATMARK,
  SIOCINQ,
} from "../../sockets/calls/constants.ts";
import { addressBuffer } from "../../sockets/calls/message.ts";
import * as o from "../../sockets/options.ts";
import { OPTION_LEVELS } from "../calls/inet/tcp-option-scenarios.ts";
import { eachTcp, here, linger, look, recv, type Scene, STATES, send } from "../calls/inet/tcp-tools.ts";
import { getInt, type InetScenario, names, setInt } from "../calls/inet/tools.ts";
import { playOption, VALUES } from "./generate.ts";
import { optionName } from "./names.ts";

/** States in which options are asked for and set at every value. */
const OPTION_STATES = ["fresh", "listening", "connected", "reset by the peer"] as const;
/** Quick acknowledgments come and go by themselves while there is a connection. */
const varies = (level: number, name: number, state: string): boolean =>
  level === o.SOL_TCP && name === o.TCP_QUICKACK && (state === "connected" || state === "reset by the peer");

export const STREAM_OPTIONS: readonly InetScenario[] = OPTION_STATES.flatMap((state) =>
  OPTION_LEVELS.flatMap(({ level, names: numbers }) =>
    numbers
      .filter((name) => !varies(level, name, state))
      .flatMap((name) =>
        eachTcp(`${state}: ${optionName(level, name)}, every value`, (scene) => {
          const ends = STATES[state](scene);
          playOption(scene.calls, ends.fd, level, name);
          ends.close();
        }),
      ),
  ),
);

/** Options of sequences: those that are told as they were set, and change what calls answer. */
const DRAWN: readonly (readonly [level: number, name: number])[] = [
  ...[o.SO_REUSEADDR, o.SO_KEEPALIVE, o.SO_OOBINLINE, o.SO_RCVLOWAT, o.SO_RCVBUF, o.SO_SNDBUF, o.SO_PEEK_OFF].map(
    (name) => [o.SOL_SOCKET, name] as const,
  ),
  ...[o.SO_TIMESTAMP, o.SO_BUSY_POLL, o.SO_INCOMING_CPU, o.SO_REUSEPORT].map((name) => [o.SOL_SOCKET, name] as const),
  ...[o.TCP_NODELAY, o.TCP_MAXSEG, o.TCP_KEEPIDLE, o.TCP_KEEPCNT, o.TCP_SYNCNT, o.TCP_LINGER2, o.TCP_INQ].map(
    (name) => [o.SOL_TCP, name] as const,
  ),
  ...[o.TCP_WINDOW_CLAMP, o.TCP_USER_TIMEOUT, o.TCP_DEFER_ACCEPT].map((name) => [o.SOL_TCP, name] as const),
  ...[o.IP_TOS, o.IP_TTL, o.IP_MTU_DISCOVER, o.IP_FREEBIND].map((name) => [o.IPPROTO_IP, name] as const),
];

/** Numbers below a bound, the same for the same seed (mulberry32). */
function numbersFrom(seed: number): (bound: number) => number {
  let state = seed;
  return (bound) => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) % bound;
  };
}

type Step = (scene: Scene, fd: number, below: (bound: number) => number) => void;

/** What a sequence is made of. Those that set and ask for options come oftener. */
const STEPS: readonly Step[] = [
  ...Array<Step>(4).fill(({ calls }, fd, below) => {
    const [level, name] = DRAWN[below(DRAWN.length)];
    setInt(calls, fd, level, name, VALUES[below(VALUES.length)]);
    getInt(calls, fd, level, name);
  }),
  ({ calls }, fd, below) => {
    const [level, name] = DRAWN[below(DRAWN.length)];
    calls.getsockopt(fd, level, name, new Uint8Array(below(9)));
  },
  ({ calls }, fd) => void look(calls, fd),
  ({ calls }, fd) => names(calls, fd),
  ({ calls }, fd, below) => void recv(calls, fd, below(5)),
  ({ calls }, fd, below) => void recv(calls, fd, 1 + below(4), [MSG_PEEK, MSG_TRUNC, MSG_OOB][below(3)]),
  ({ calls }, fd) => void calls.ioctl(fd, SIOCINQ, new Uint8Array(4)),
  ({ calls }, fd) => void calls.ioctl(fd, SIOCATMARK, new Uint8Array(4)),
  ({ calls }, fd) => void send(calls, fd, "", MSG_NOSIGNAL),
  ({ calls }, fd) => void getInt(calls, fd, o.SOL_SOCKET, o.SO_ERROR),
  ({ calls }, fd) => void getInt(calls, fd, o.SOL_SOCKET, o.SO_ACCEPTCONN),
  ({ calls }, fd, below) => void linger(calls, fd, below(2), below(3)),
  (scene, fd) => void scene.calls.bind(fd, here(scene)),
  ({ calls }, fd, below) => void calls.listen(fd, below(4)),
  ({ calls }, fd) => void calls.accept4(fd, addressBuffer(), 0),
  ({ calls }, fd) => void calls.shutdown(fd, SHUT_RD),
  ({ calls }, fd) => void calls.connect(fd, new Uint8Array(16)),
];

const SEQUENCES = 400;
const STEPS_EACH = 16;
/** All but those that are on their way from one state to the next. */
const SEQUENCE_STATES = Object.keys(STATES).filter((state) => state !== "connecting");

/** Of one socket, whose descriptor does not wait. */
export const STREAM_SEQUENCES: readonly InetScenario[] = Array.from({ length: SEQUENCES }, (_, seed) => seed).flatMap(
  (seed) => {
    const state = SEQUENCE_STATES[seed % SEQUENCE_STATES.length];
    return eachTcp(`sequence ${seed}, ${state}`, (scene) => {
      const below = numbersFrom(seed);
      const ends = STATES[state](scene);
      for (let i = 0; i < STEPS_EACH; i++) STEPS[below(STEPS.length)](scene, ends.fd, below);
      ends.close();
    });
  },
);
