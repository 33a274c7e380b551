import type { UnixScenario } from "./tools.ts";
export const PACKET_SCENARIOS: readonly UnixScenario[] = [];
