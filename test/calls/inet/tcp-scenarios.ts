/** Every scenario of stream sockets of AF_INET and AF_INET6. */
import { TCP_CALL_SCENARIOS } from "./tcp-call-scenarios.ts";
import { TCP_CLOSE_SCENARIOS } from "./tcp-close-scenarios.ts";
import { TCP_DATA_SCENARIOS } from "./tcp-data-scenarios.ts";
import { TCP_EVENT_SCENARIOS } from "./tcp-event-scenarios.ts";
import { TCP_FILTER_SCENARIOS } from "./tcp-filter-scenarios.ts";
import { TCP_LISTEN_SCENARIOS } from "./tcp-listen-scenarios.ts";
import { TCP_OPTION_SCENARIOS } from "./tcp-option-scenarios.ts";
import type { InetScenario } from "./tools.ts";

export const TCP_SCENARIOS: readonly InetScenario[] = [
  ...TCP_CALL_SCENARIOS,
  ...TCP_DATA_SCENARIOS,
  ...TCP_OPTION_SCENARIOS,
  ...TCP_CLOSE_SCENARIOS,
  ...TCP_EVENT_SCENARIOS,
  ...TCP_LISTEN_SCENARIOS,
  ...TCP_FILTER_SCENARIOS,
];
