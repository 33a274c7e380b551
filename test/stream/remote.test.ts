/** TCP sockets of application threads: their connections live on lcores. Two engines over a wire in memory. */
import { afterEach, describe, expect, setDefaultTimeout, test } from "bun:test";
import type { EngineOptions } from "../../engine/config.ts";
import type { Engine } from "../../engine/engine.ts";
import { echoClient, echoHandlers, enginePair, SERVER, SERVER6 } from "./pair.ts";

setDefaultTimeout(60_000);

const PORT = 7100;
const closers: (() => Promise<void> | void)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

async function engines(
  queues: [number, number] = [1, 1],
  options: Partial<EngineOptions> = {},
): Promise<[Engine, Engine]> {
  const pair = await enginePair(queues, options);
  for (const engine of pair) closers.push(() => engine.close());
  return pair;
}

describe("echo", () => {
  test.each(["echo", "write", "read"] as const)("by %s: every byte comes back, whatever the size", async (how) => {
    const [server, client] = await engines();
    for (const address of ["0.0.0.0", "::"])
      server.listen({ address, port: PORT, ipv6Only: address === "::" }, echoHandlers(how));
    for (const address of [SERVER, SERVER6])
      for (const bytes of [0, 1, 63, 1448, 2048, 2049, 30_000, 1_000_000])
        expect(await echoClient(client, { address, port: PORT }, bytes)).toEqual({ errno: 0, received: bytes });
  });
});
