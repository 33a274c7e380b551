import type { UnixScenario } from "./tools.ts";
export const ROOM_SCENARIOS: readonly UnixScenario[] = [];
