/** `lcore echo`: a UDP echo server, run to completion on each lcore. */
import { existsSync } from "node:fs";
import { type Command, Option } from "commander";
import type { AttachMode, PollPolicy } from "../config.ts";
import type { ProviderOption } from "../provider.ts";
import { address, numberList, port, providerOption, queueList, words } from "./arguments.ts";

export interface EchoOptions {
  interface?: string;
  provider: ProviderOption;
  udp: number;
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

/** What the module on each lcore is told. */
export interface EchoData {
  readonly address: string;
  readonly port: number;
  readonly lcores: number;
}

export function echoCommand(program: Command): void {
  program
    .command("echo")
    .description("serve UDP echo on an interface over AF_XDP, or where that cannot be had on kernel sockets")
    .option("--interface <if>", "interface to serve; default that of the default route")
    .addOption(providerOption())
    .requiredOption("--udp <port>", "UDP port", port)
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
    .option("--json", "print JSON, a line an event")
    .action(async (options: EchoOptions) => {
      const { runEcho } = await import("./echo-run.ts");
      await runEcho(options);
    });
}

/** The wildcard of both families, where the kernel has IPv6. */
export const wildcard = (): string => (existsSync("/proc/net/if_inet6") ? "::" : "0.0.0.0");
