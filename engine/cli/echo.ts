/** `lcore echo`: a UDP and TCP echo server, run to completion on each lcore. */
import type { Command } from "commander";
import type { ProviderOption } from "../provider.ts";
import { port, providerOption } from "./arguments.ts";
import { addServeOptions, type ServeOptions } from "./serve.ts";

export interface EchoOptions extends ServeOptions {
  provider: ProviderOption;
  udp?: number;
  tcp?: number;
}

/** What the module on each lcore is told. */
export interface EchoData {
  readonly address: string;
  /** Ports, those that are served. */
  readonly udp?: number;
  readonly tcp?: number;
  readonly lcores: number;
}

export function echoCommand(program: Command): void {
  addServeOptions(
    program
      .command("echo")
      .description("serve echo on an interface over AF_XDP; UDP alone also on kernel sockets, where that cannot be had")
      .option("--interface <if>", "interface to serve; default that of the default route")
      .addOption(providerOption())
      .option("--udp <port>", "UDP port", port)
      .option("--tcp <port>", "TCP port, on the engine's own TCP; beside --udp or alone", port),
  ).action(async (options: EchoOptions) => {
    const { runEcho } = await import("./echo-run.ts");
    await runEcho(options);
  });
}
