/** Every scenario of AF_INET and AF_INET6. */
import { NAME_SCENARIOS } from "./name-scenarios.ts";
import { SEND_SCENARIOS } from "./send-scenarios.ts";
import type { InetScenario } from "./tools.ts";

export const INET_SCENARIOS: readonly InetScenario[] = [...NAME_SCENARIOS, ...SEND_SCENARIOS];
