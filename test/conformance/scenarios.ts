/** Every scenario there is: written ones, and those made by the dozen. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { EVENT_SCENARIOS, type LocalScenario } from "../calls/event-scenarios.ts";
import { INET_SCENARIOS } from "../calls/inet/scenarios.ts";
import { TCP_SCENARIOS } from "../calls/inet/tcp-scenarios.ts";
import { SIGNAL_SCENARIOS } from "../calls/signal-scenarios.ts";
import { UNIX_SCENARIOS } from "../calls/unix/scenarios.ts";
import { GENERATED } from "./generate.ts";
import { STREAM_OPTIONS, STREAM_SEQUENCES } from "./generate-streams.ts";
import type { Playable } from "./run.ts";

/** Scenarios of one host. What they record goes into the trace. */
const local = (scenarios: readonly LocalScenario[]): Playable[] =>
  scenarios.map(({ name, play }) => ({
    name,
    inet: false,
    play({ calls, trace }) {
      play(calls, (what, value) => trace.add(`${what}: ${JSON.stringify(value)}`));
    },
  }));

/** Where paths of AF_UNIX lie. */
const directory = mkdtempSync(join(tmpdir(), "lcore-conformance-"));
process.on("exit", () => rmSync(directory, { recursive: true, force: true }));

const unix: readonly Playable[] = UNIX_SCENARIOS.map(({ name, play }) => ({
  name,
  inet: false,
  play({ calls, trace, unlink }) {
    play(calls, (what, value) => trace.add(`${what}: ${JSON.stringify(value)}`), { directory, unlink });
  },
}));

const inet: readonly Playable[] = INET_SCENARIOS.map((scenario) => ({ ...scenario, inet: true }));

/** Those of TCP: many, for each call is made in each state. */
export const STREAMS: readonly Playable[] = TCP_SCENARIOS.map((scenario) => ({ ...scenario, inet: true }));

/** Those of TCP that are made by the dozen. */
export const STREAMS_MADE: readonly Playable[] = [...STREAM_OPTIONS, ...STREAM_SEQUENCES].map((scenario) => ({
  ...scenario,
  inet: true,
}));

/** Which signals a scenario is about: what it records of them has no calls of its own. */
const SIGNALS: readonly (readonly [RegExp, string])[] = [
  [/SIGIO|a queued signal/, "SIGIO"],
  [/urgent data/, "SIGURG"],
  [/written after the peer/, "SIGPIPE"],
];

const signals: readonly Playable[] = local(SIGNAL_SCENARIOS).map((scenario) => ({
  ...scenario,
  play(stage) {
    for (const [pattern, name] of SIGNALS) if (pattern.test(scenario.name)) stage.trace.items.add(name);
    scenario.play(stage);
  },
}));

export const WRITTEN: readonly Playable[] = [...local(EVENT_SCENARIOS), ...signals, ...unix, ...inet];

export const MADE: readonly Playable[] = GENERATED.map(({ name, inet, play }) => ({
  name,
  inet,
  play({ calls, places }) {
    play(calls, places);
  },
}));
