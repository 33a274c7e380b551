/** Running `lcore echo`. */
import type { EchoData, EchoOptions } from "./echo.ts";
import { CliError, EXIT_USAGE } from "./failure.ts";
import { wildcard } from "./serve.ts";
import { serve } from "./serve-run.ts";

export async function runEcho(options: EchoOptions): Promise<void> {
  const { provider, tcp, udp } = options;
  if (udp === undefined && tcp === undefined)
    throw new CliError("echo: give --udp PORT, --tcp PORT or both", EXIT_USAGE);
  if (tcp !== undefined && provider === "kernel")
    throw new CliError("echo: --tcp is the engine's own TCP, which kernel sockets do without", EXIT_USAGE);
  const address = options.address ?? wildcard();
  const data: EchoData = { address, udp, tcp, lcores: options.cpus?.length ?? 1 };
  await serve(options, {
    provider: tcp === undefined ? provider : "engine",
    protocols: [
      ...(udp === undefined ? [] : [{ name: "UDP", port: udp }]),
      ...(tcp === undefined ? [] : [{ name: "TCP", port: tcp }]),
    ],
    address,
    module: new URL("./echo-module.ts", import.meta.url),
    data,
    ready: { udp, tcp },
  });
}
