import type { UnixScenario } from "./tools.ts";
export const STREAM_SCENARIOS: readonly UnixScenario[] = [];
