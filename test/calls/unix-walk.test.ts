/** Random walks over sockets of AF_UNIX, on the kernel's and on a process's own, compared step by step. */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { AF_UNIX } from "../../sockets/calls/constants.ts";
import { raisePipe } from "../../sockets/calls/events/signals.ts";
import { KernelCalls } from "../../sockets/calls/kernel-calls.ts";
import { SocketProcess } from "../../sockets/calls/process.ts";
import { plainSleeper } from "../../sockets/calls/sleep.ts";
import { UnixFamily } from "../../sockets/calls/unix/family.ts";
import { openIn } from "./unix/compare.ts";
import { Walker } from "./unix/walk.ts";

setDefaultTimeout(60_000);

/** WALKS: how many, for a longer look. */
const SEEDS = Number(process.env.WALKS ?? 16);
const STEPS = 300;

describe("walks", () => {
  test.each(Array.from({ length: SEEDS }, (_, seed) => seed))("seed %i", (seed) => {
    const own = new SocketProcess(new Map([[AF_UNIX, new UnixFamily()]]), plainSleeper, raisePipe);
    const [ours, kernels] = [own, new KernelCalls()].map((calls) => new Walker(calls, 1000 + seed * 104_729));
    try {
      for (let i = 0; i < STEPS; i++) {
        const [done, wanted] = [ours.step(), kernels.step()];
        if (!Bun.deepEquals(done, wanted)) expect([i, ...done]).toEqual([i, ...wanted]);
        const [state, wantedState] = [ours.state(), kernels.state()];
        if (!Bun.deepEquals(state, wantedState)) expect([i, ...done, state]).toEqual([i, ...wanted, wantedState]);
      }
    } finally {
      ours.end();
      kernels.end();
    }
    expect(openIn(own)).toBe(0);
  });
});
