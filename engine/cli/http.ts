/** `lcore http`: a server of static files, run to completion on each lcore. */
import type { Command } from "commander";
import { port, seconds, wholeNumber } from "./arguments.ts";
import { addServeOptions, type ServeOptions } from "./serve.ts";

export interface HttpOptions extends ServeOptions {
  port: number;
  root: string;
  /** MiB on each lcore. */
  cache: number;
  headerTimeout: number;
  idleTimeout: number;
  /** A file, or true: standard output. */
  log?: string | true;
}

export function httpCommand(program: Command): void {
  addServeOptions(
    program
      .command("http")
      .description("serve the files of a directory over HTTP/1.1 on an interface, by the engine's own TCP")
      .option("--interface <if>", "interface to serve; default that of the default route")
      .requiredOption("--port <port>", "TCP port", port)
      .requiredOption("--root <directory>", "what is served; no path and no symbolic link leads out of it")
      .option("--cache <mib>", "memory for small files on each lcore, MiB; 0: none are kept", wholeNumber(0, 4096), 64)
      .option("--header-timeout <seconds>", "time for a request's head, then 408", seconds(3600), 10)
      .option("--idle-timeout <seconds>", "time without a request, then the connection is closed", seconds(86_400), 60)
      .option("--log [file]", "write a line a request to a file, or to standard output"),
  ).action(async (options: HttpOptions) => {
    const { runHttp } = await import("./http-run.ts");
    await runHttp(options);
  });
}
