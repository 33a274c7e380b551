/** Threads that are terminated in the middle of what they do: what they had is there for others, and nobody waits for them. */
import { afterEach, expect, setDefaultTimeout, test } from "bun:test";
import { Worker } from "node:worker_threads";
import { openShared } from "../../engine/wiring.ts";
import { enginePair, SERVER } from "../stream/pair.ts";
import { until } from "../support/kernel-udp.ts";
import type { DoomedData } from "./modules/doomed.ts";

setDefaultTimeout(60_000);

const PORT = 7400;
const closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

test("frames that it held and was lent go back to their lcore: the next thread has as many", async () => {
  const [server, client] = await enginePair([1, 1], { frames: 1024, threads: 2 });
  closers.push(
    () => server.close(),
    () => client.close(),
  );
  const { mesh } = openShared(server.descriptor().wiring);
  const sender = client.udp({ port: 0 });
  // 128 frames are lent to it and 150 are kept, of some 500 that no queue has: with what two had lost the third would find none.
  for (let round = 0; round < 5; round++) {
    const workerData: DoomedData = { descriptor: server.descriptor(), port: PORT, datagrams: 150 };
    const worker = new Worker(new URL("./modules/doomed.ts", import.meta.url), { workerData });
    closers.push(() => worker.terminate());
    const said: string[] = [];
    worker.on("message", (text: string) => void said.push(text));
    worker.on("error", (error) => void said.push(String(error)));
    await until("it is bound", () => said.length === 1);
    await until("it has its datagrams", () => {
      if (said.length === 1) sender.send("x", PORT, SERVER);
      return said.length === 2;
    });
    expect(said).toEqual(["bound", "has them"]);
    await worker.terminate();
    await until("its place is free", () => !mesh.isTaken(mesh.lcores + 1));
  }
});
