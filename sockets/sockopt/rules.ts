/**
 * What an option is, and the forms most options have: a flag, a number within bounds, a constant.
 *
 * Lengths follow the kernel. SOL_SOCKET, IPPROTO_IPV6 and SOL_UDP want a whole int (net/core/sock.c, net/ipv6/ipv6_sockglue.c,
 * net/ipv4/udp.c); IPPROTO_IP takes one byte as well, and some of its options none at all (net/ipv4/ip_sockglue.c).
 */
import { ERRNO, sys } from "af-xdp-bindings";
import { IPPROTO_IP } from "../options.ts";
import type { Limits } from "./limits.ts";

const INT_BYTES = 4;
/** The kernel does not tell it: the effect is that of the number given. */
export const AS_GIVEN = -1;

/** The socket an option is set on: what every family has. */
export interface OptionTarget {
  /** SOCK_, AF_ and the number that SO_PROTOCOL tells. */
  readonly type: number;
  readonly domain: number;
  readonly protocol: number;
  /** SO_ACCEPTCONN. */
  readonly listening: boolean;
  readonly limits: Limits;
  /** SO_SNDBUF and SO_RCVBUF as getsockopt tells them, bytes. */
  sendBuffer: number;
  receiveBuffer: number;
  /** SO_ERROR, and clears it: a positive errno, or 0. */
  takeError(): number;
  /** Value as getsockopt would tell it, where the engine keeps it: the stored one, else the default. */
  value(option: Option<never>): number;
  store(option: Option<never>, value: number): void;
}

export interface Option<T extends OptionTarget = OptionTarget> {
  readonly level: number;
  readonly name: number;
  /** As in the header: "SO_RCVBUF". */
  readonly label: string;
  /**
   * Whose word counts where the kernel has a socket for ours: the kernel's, after which `effect` tells the packet path; or
   * the engine's, for what that socket cannot know or has to have set otherwise; or the one's who reads the datagrams: the
   * engine's beside a kernel, the kernel's where its socket is the one that is read.
   */
  readonly word: "kernel" | "engine" | "reader";
  /** The option under whose name the kernel tells the value: BINDTOIFINDEX for BINDTODEVICE, say. Or AS_GIVEN. */
  readonly readAs: number;
  /** Whether a flow, which has no kernel socket of its own, may have it. */
  readonly ofFlow: boolean;
  readonly initial: number | ((target: T) => number);
  /** The kernel's rules, applied here. Returns 0 or -errno. */
  set(target: T, value: Uint8Array): number;
  /** Fills `out` as far as it goes. Returns the bytes written, or -errno. */
  get(target: T, out: Uint8Array): number;
  /** get() of the kernel's socket where that has the word. */
  ask(fd: number, out: Uint8Array): number;
  /** Tells the packet path. `length` is that of the value as getsockopt tells it. */
  effect(target: T, value: number, length: number): void;
}

export type OptionPart<T extends OptionTarget = OptionTarget> = Partial<Option<T>>;

/** An option without rules of its own: the engine alone, without a kernel, does not have it. */
export function option<T extends OptionTarget>(
  level: number,
  name: number,
  label: string,
  ...parts: readonly OptionPart<T>[]
): Option<T> {
  return Object.assign(
    {
      level,
      name,
      label,
      word: "kernel" as const,
      readAs: name,
      ofFlow: false,
      initial: 0,
      set: () => -ERRNO.ENOPROTOOPT,
      get: () => -ERRNO.ENOPROTOOPT,
      ask: (fd: number, out: Uint8Array) => sys.getsockopt(fd, level, name, out),
      effect: () => {},
    },
    ...parts,
  );
}

/** How a number is taken: what is wrong with it (0 or -errno), and what becomes of it. */
export interface NumberRule<T extends OptionTarget = OptionTarget> {
  check?(value: number, target: T): number;
  normal?(value: number, target: T): number;
  /** Fewest bytes IPPROTO_IP takes, and what the other levels do with fewer than four: EINVAL unless 0. */
  least?: number;
}

/** An int. The option's own `initial` is its default. */
export function number<T extends OptionTarget>({ check, normal, least }: NumberRule<T> = {}): OptionPart<T> {
  return {
    set(this: Option, target, bytes) {
      const short = this.level === IPPROTO_IP ? (least ?? 0) : (least ?? INT_BYTES);
      if (bytes.length < short) return -ERRNO.EINVAL;
      const given = readInt(bytes, this.level);
      const verdict = check?.(given, target) ?? 0;
      if (verdict < 0) return verdict;
      const value = normal === undefined ? given : normal(given, target);
      target.store(this, value);
      this.effect(target, value, INT_BYTES);
      return 0;
    },
    get(this: Option, target, out) {
      return writeInt(this.level, out, target.value(this));
    },
  };
}

/** On or off: every number but 0 is on. */
export const flag = <T extends OptionTarget>(rule: NumberRule<T> = {}): OptionPart<T> =>
  number({ normal: (value) => (value === 0 ? 0 : 1), ...rule });

/** On or off, 0 or 1 and nothing else. */
export const strictFlag = <T extends OptionTarget>(rule: NumberRule<T> = {}): OptionPart<T> => ranged(0, 1, rule);

/** From `low` to `high`. */
export const ranged = <T extends OptionTarget>(low: number, high: number, rule: NumberRule<T> = {}): OptionPart<T> =>
  number({ check: (value) => (value < low || value > high ? -ERRNO.EINVAL : 0), ...rule });

/** May be read, not set. */
export const readOnly = <T extends OptionTarget>(read: (target: T) => number): OptionPart<T> => ({
  set(this: Option, _target, bytes) {
    return this.level !== IPPROTO_IP && bytes.length < INT_BYTES ? -ERRNO.EINVAL : -ERRNO.ENOPROTOOPT;
  },
  get(this: Option, target, out) {
    return writeInt(this.level, out, read(target));
  },
});

/** Neither: with the errno for each. */
export const refused = (set: number, get: number): OptionPart => ({
  set(this: Option, _target, bytes) {
    return this.level !== IPPROTO_IP && bytes.length < INT_BYTES ? -ERRNO.EINVAL : -set;
  },
  get: () => -get,
});

/** The engine's own word, beside a kernel too. */
export const ENGINE: OptionPart = { word: "engine", ofFlow: true };
/** The word of whoever reads the datagrams. */
export const READER: OptionPart = { word: "reader", ofFlow: true };
export const OF_FLOW: OptionPart = { ofFlow: true };

export function readInt(bytes: Uint8Array, level: number): number {
  if (bytes.length >= INT_BYTES) return new DataView(bytes.buffer, bytes.byteOffset).getInt32(0, true);
  return level === IPPROTO_IP && bytes.length > 0 ? bytes[0] : 0;
}

/** Tells an int as the level does: IPPROTO_IP gives one byte where there is no room for four and the value fits. */
export function writeInt(level: number, out: Uint8Array, value: number): number {
  const room = Math.min(out.length, INT_BYTES);
  const length = level === IPPROTO_IP && room > 0 && room < INT_BYTES && value >= 0 && value <= 255 ? 1 : room;
  for (let i = 0; i < length; i++) out[i] = value >> (8 * i);
  return length;
}

/** Tells a structure. */
export function writeBytes(out: Uint8Array, bytes: Uint8Array): number {
  const length = Math.min(out.length, bytes.length);
  out.set(bytes.subarray(0, length));
  return length;
}
