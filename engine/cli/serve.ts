/** What commands that serve on an interface have in common: their options, and the address that is bound by default. */
import { existsSync } from "node:fs";
import { type Command, Option } from "commander";
import type { AttachMode, PollPolicy } from "../config.ts";
import { address, numberList, queueList, words } from "./arguments.ts";

export interface ServeOptions {
  interface?: string;
  address?: string;
  addresses?: string[];
  gateways?: string[];
  dad: boolean;
  queues: "all" | number[];
  cpus?: number[];
  mode: AttachMode;
  poll: PollPolicy;
  json?: boolean;
}

export function addServeOptions(command: Command): Command {
  return command
    .option("--address <address>", "address to bind; default every one of the host, IPv4 and IPv6", address)
    .option(
      "--addresses <list>",
      "own addresses, as 198.18.0.1/24,2001:db8::1/64: the interface is lcore's alone",
      words,
    )
    .option("--gateways <list>", "default gateways of own addresses, one an IP version", words)
    .option("--no-dad", "use own addresses without looking for others that have them")
    .option("--queues <list>", "queues to take, as 0-3 or all", queueList, "all")
    .option("--cpus <list>", "CPUs, one lcore each; default the last this process may use", numberList)
    .addOption(
      new Option("--mode <mode>", "how frames are taken")
        .choices(["auto", "native", "skb", "zerocopy"])
        .default("auto"),
    )
    .addOption(
      new Option("--poll <policy>", "what an idle lcore does")
        .choices(["busy", "adaptive", "interrupt"])
        .default("adaptive"),
    )
    .option("--json", "print JSON, a line an event");
}

/** The wildcard of both families, where the kernel has IPv6. */
export const wildcard = (): string => (existsSync("/proc/net/if_inet6") ? "::" : "0.0.0.0");
