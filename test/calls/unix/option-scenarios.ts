import type { UnixScenario } from "./tools.ts";
export const OPTION_SCENARIOS: readonly UnixScenario[] = [];
