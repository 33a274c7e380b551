/** Seeded runs of the simulator: LCORE_TCP_SEEDS=5000 for more, LCORE_TCP_SEED=17 for one. */
import { expect, test } from "bun:test";
import { conditions, Simulation } from "./simulator.ts";

const one = process.env.LCORE_TCP_SEED;
const first = one === undefined ? 1 : Number(one);
/** Seeds that once stood still: no node of a segment left to split one that had to be sent again. */
const ONCE_BAD = [21_177];
const count = one === undefined ? Number(process.env.LCORE_TCP_SEEDS ?? 200) : 1;

test(`${count} bad wires: every byte arrives, in order, and nothing is left`, () => {
  let frames = 0;
  let packets = 0;
  for (let seed = first; seed < first + count; seed++) {
    const simulation = new Simulation(seed);
    simulation.run();
    frames += simulation.frames;
    packets += simulation.packets;
  }
  for (const seed of ONCE_BAD) new Simulation(seed, { ...conditions(seed), gso: false }).run();
  expect(frames).toBeGreaterThan(count);
  // One seed alone may have no use for them.
  if (count > 1) expect(packets).toBeGreaterThan(count / 10);
}, 600_000);
