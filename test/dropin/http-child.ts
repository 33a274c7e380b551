/**
 * Servers for the cases, one each at a port of its own: `bun test/dropin/http-child.ts lcore ADDRESS PORT`, or bundled with `node`. Prints
 * "ready", and when its input ends what has been noted, a line of JSON a case.
 */
import type * as httpModule from "node:http";
import { httpCases, type Request } from "./http-cases.ts";

async function main([kind, address, first]: readonly string[]): Promise<void> {
  const module = kind === "lcore" ? await import("lcore/http") : await import("node:http");
  const http = module.default as typeof httpModule;
  const noted: Record<string, unknown[]> = {};
  for (const [i, [name, { handler, options = {}, prepare }]] of Object.entries(httpCases).entries()) {
    const notes: unknown[] = [];
    noted[name] = notes;
    const note = (...what: unknown[]): void => void notes.push(what);
    class Own extends http.IncomingMessage {
      extra = (): string => "request";
    }
    class OwnResponse<T extends httpModule.IncomingMessage> extends http.ServerResponse<T> {
      extra = (): string => "response";
    }
    const own = name.includes("of one's own") && name.startsWith("responses");
    const given = own ? { IncomingMessage: Own, ServerResponse: OwnResponse } : options;
    const server = http.createServer(given);
    if (handler !== undefined)
      server.on("request", (request, response) => handler(request as Request, response, note, server));
    prepare?.(server, note);
    await new Promise<void>((resolve) => server.listen(Number(first) + i, address, resolve));
  }
  process.on("uncaughtException", (error) => console.error("uncaught", error));
  console.log("ready");
  process.stdin.on("end", () => {
    for (const [name, notes] of Object.entries(noted)) console.log(JSON.stringify({ name, notes }));
    process.exit();
  });
  process.stdin.resume();
}

if (/http-child/.test(process.argv[1]) && process.argv[2] !== undefined) await main(process.argv.slice(2));
