/** All scenarios of AF_UNIX. */
import { CONTROL_SCENARIOS } from "./control-scenarios.ts";
import { FILTER_SCENARIOS } from "./filter-scenarios.ts";
import { NAME_SCENARIOS } from "./name-scenarios.ts";
import { OPTION_SCENARIOS } from "./option-scenarios.ts";
import { PACKET_SCENARIOS } from "./packet-scenarios.ts";
import { ROOM_SCENARIOS } from "./room-scenarios.ts";
import { STATE_SCENARIOS } from "./state-scenarios.ts";
import { STREAM_SCENARIOS } from "./stream-scenarios.ts";
import type { UnixScenario } from "./tools.ts";

export const UNIX_SCENARIOS: readonly UnixScenario[] = [
  ...NAME_SCENARIOS,
  ...STATE_SCENARIOS,
  ...STREAM_SCENARIOS,
  ...PACKET_SCENARIOS,
  ...ROOM_SCENARIOS,
  ...CONTROL_SCENARIOS,
  ...OPTION_SCENARIOS,
  ...FILTER_SCENARIOS,
];
