/** Threads that leave, or are terminated in the middle of what they do: what they had is there for others, and nobody waits for them. */
import { afterEach, expect, setDefaultTimeout, test } from "bun:test";
import { Worker } from "node:worker_threads";
import { Engine } from "../../engine/engine.ts";
import { openShared } from "../../engine/wiring.ts";
import { enginePair, SERVER } from "../stream/pair.ts";
import { makeHosts, requires } from "../support/hosts.ts";
import { KernelUdp, until } from "../support/kernel-udp.ts";
import type { DoomedData } from "./modules/doomed.ts";

setDefaultTimeout(60_000);

const PORT = 7400;
const closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

/** A worker on the engine that will be terminated, and what it has said. */
function doomed(engine: Engine, task: DoomedData["task"], datagrams = 0): { worker: Worker; said: string[] } {
  const workerData: DoomedData = { descriptor: engine.descriptor(), port: PORT, task, datagrams };
  const worker = new Worker(new URL("./modules/doomed.ts", import.meta.url), { workerData });
  closers.push(() => worker.terminate());
  const said: string[] = [];
  worker.on("message", (text: string) => void said.push(text));
  worker.on("error", (error) => void said.push(String(error)));
  return { worker, said };
}

const inTheMiddle = (said: readonly string[]): boolean => said.includes("in the middle");

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
    const { worker, said } = doomed(server, "hold", 150);
    await until("it is bound", () => said.length === 1);
    await until("it has its datagrams", () => {
      if (said.length === 1) sender.send("x", PORT, SERVER);
      return said.length === 2;
    });
    expect(said).toEqual(["bound", "in the middle"]);
    await worker.terminate();
    await until("its place is free", () => !mesh.isTaken(mesh.lcores + 1));
  }
});

test("one that leaves: its place is the next one's as soon as it is asked for, with loans of its own", async () => {
  const [server, client] = await enginePair([1, 1], { frames: 1024, threads: 2 });
  closers.push(
    () => server.close(),
    () => client.close(),
  );
  const receiver = client.udp({ port: PORT });
  for (let round = 0; round < 30; round++) {
    const thread = Engine.attach(server.descriptor());
    expect(() => Engine.attach(server.descriptor())).toThrow("at most 2 threads");
    const socket = thread.udp({ port: PORT });
    expect(socket.send(`round ${round}`, PORT, "198.18.0.2")).toBeGreaterThan(0);
    expect((await receiver.receive()).text()).toBe(`round ${round}`);
    thread.detach();
  }
});

test.skipIf(requires("veth", "af_xdp", "bpf") !== "").each(["bind", "close"] as const)(
  "in the middle of a %s, with the mutex of the table: others bind and are served on, and the port is free",
  async (task) => {
    const hosts = makeHosts();
    closers.push(() => hosts.close());
    const { a, b } = hosts;
    const notices: string[] = [];
    const onNotice = (text: string): void => void notices.push(text);
    const engine = await Engine.start({ interface: b.name, netns: b.ns.path, isolate: false, onNotice });
    closers.push(() => engine.close());
    const peer = new KernelUdp(a.ns, { address: a.ipv4Text });
    closers.push(() => peer.close());
    const echo = (port: number): void => {
      const socket = engine.udp({ port });
      socket.onDatagram = (datagram) => void datagram.reply();
    };
    echo(PORT + 1);
    const { worker, said } = doomed(engine, task);
    await until("it is in the middle", () => inTheMiddle(said));
    await worker.terminate();
    // Waits for the mutex.
    echo(PORT + 2);
    for (const port of [PORT + 1, PORT + 2])
      expect((await peer.ask(`to ${port}`, b.ipv4Text, port)).text).toBe(`to ${port}`);
    await until("it is noticed", () => notices.some((text) => text.includes("socket table")));
    const { mesh } = openShared(engine.descriptor().wiring);
    await until("its place is free", () => !mesh.isTaken(mesh.lcores + 1));
    const kernel = new KernelUdp(b.ns, { address: b.ipv4Text, port: PORT });
    expect(peer.send("to the kernel's", b.ipv4Text, PORT)).toBeGreaterThan(0);
    expect((await kernel.receive()).text).toBe("to the kernel's");
    kernel.close();
    echo(PORT);
    expect((await peer.ask("to the engine's", b.ipv4Text, PORT)).text).toBe("to the engine's");
  },
);
