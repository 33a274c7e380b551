/** Every scenario of AF_INET and AF_INET6. */
import { EVENT_SCENARIOS } from "./event-scenarios.ts";
import { NAME_SCENARIOS } from "./name-scenarios.ts";
import { RECEIVE_SCENARIOS } from "./receive-scenarios.ts";
import { SEND_SCENARIOS } from "./send-scenarios.ts";
import type { InetScenario } from "./tools.ts";

export const INET_SCENARIOS: readonly InetScenario[] = [
  ...NAME_SCENARIOS,
  ...SEND_SCENARIOS,
  ...RECEIVE_SCENARIOS,
  ...EVENT_SCENARIOS,
];
