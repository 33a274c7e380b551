/** Signals of the calling thread, taken one by one instead of delivered: for scenarios that compare what they carry. */
import { check, sys } from "af-xdp-bindings";

const SIG_BLOCK = 0;
const SIG_SETMASK = 2;
/** siginfo_t: i32 signo, errno, code, padding; i64 band; i32 fd. */
const SIGINFO_BYTES = 128;

/** sigset_t as the kernel has it: 64 bits, signal n at bit n - 1. */
const setOf = (signals: readonly number[]): BigUint64Array =>
  BigUint64Array.of(signals.reduce((bits, signal) => bits | (1n << BigInt(signal - 1)), 0n));

export interface TakenSignal {
  readonly signal: number;
  readonly code: number;
  /** What SIGIO and its kin carry; 0 for others. */
  readonly band: number;
  readonly fd: number;
}

export class HeldSignals {
  private readonly set: BigUint64Array;
  private readonly before = new BigUint64Array(1);

  /** Keeps the signals from being delivered to the thread until release(). */
  constructor(signals: readonly number[]) {
    this.set = setOf(signals);
    check(this.mask(SIG_BLOCK, this.set, this.before), "rt_sigprocmask");
  }

  /** Takes what has come for the thread or the process: the lowest number first, as the kernel has it. */
  take(): TakenSignal[] {
    const info = new DataView(new ArrayBuffer(SIGINFO_BYTES));
    const none = new BigInt64Array(2);
    const taken: TakenSignal[] = [];
    const at = sys.addressOf(info);
    while (sys.sys6(sys.SYS.rt_sigtimedwait, sys.addressOf(this.set), at, sys.addressOf(none), 8, 0, 0) > 0) {
      const code = info.getInt32(8, true);
      taken.push({ signal: info.getInt32(0, true), code, band: info.getInt32(16, true), fd: info.getInt32(24, true) });
    }
    return taken;
  }

  release(): void {
    this.take();
    check(this.mask(SIG_SETMASK, this.before, null), "rt_sigprocmask");
  }

  private mask(how: number, set: BigUint64Array, old: BigUint64Array | null): number {
    return sys.sys6(sys.SYS.rt_sigprocmask, how, sys.addressOf(set), old === null ? 0 : sys.addressOf(old), 8, 0, 0);
  }
}
