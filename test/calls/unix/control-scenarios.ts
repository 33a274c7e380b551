import type { UnixScenario } from "./tools.ts";
export const CONTROL_SCENARIOS: readonly UnixScenario[] = [];
