/** Seeded runs of the simulator: LCORE_TCP_SEEDS=5000 for more, LCORE_TCP_SEED=17 for one. */
import { expect, test } from "bun:test";
import { Simulation } from "./simulator.ts";

const one = process.env.LCORE_TCP_SEED;
const first = one === undefined ? 1 : Number(one);
const count = one === undefined ? Number(process.env.LCORE_TCP_SEEDS ?? 200) : 1;

test(`${count} bad wires: every byte arrives, in order, and nothing is left`, () => {
  let frames = 0;
  for (let seed = first; seed < first + count; seed++) {
    const simulation = new Simulation(seed);
    simulation.run();
    frames += simulation.frames;
  }
  expect(frames).toBeGreaterThan(count);
}, 600_000);
