/** Plays the scenarios of AF_UNIX in which privileges matter, as whoever runs it; prints what differs from the kernel. */
import { ERRNO } from "af-xdp-bindings";
import { Comparison } from "../unix/compare.ts";
import { CONTROL_SCENARIOS } from "../unix/control-scenarios.ts";
import { NAME_SCENARIOS } from "../unix/name-scenarios.ts";
import { OPTION_SCENARIOS } from "../unix/option-scenarios.ts";

const scenarios = [...CONTROL_SCENARIOS, ...OPTION_SCENARIOS, ...NAME_SCENARIOS];
const comparison = new Comparison();
const different: unknown[] = [];
let refused = 0;
for (const scenario of scenarios) {
  const { ours, kernels } = comparison.play(scenario);
  const text = kernels.map((note) => JSON.stringify(note));
  refused += text.filter((note) => new RegExp(`[[,]-(${ERRNO.EPERM}|${ERRNO.EACCES})\\b`).test(note)).length;
  const lines = ours.map((note) => JSON.stringify(note)).map((note, i) => (note === text[i] ? [] : [note, text[i]]));
  if (lines.flat().length > 0) different.push([scenario.name, lines.flat().slice(0, 4)]);
}
comparison.close();
console.log(JSON.stringify({ played: scenarios.length, refused, different }));
