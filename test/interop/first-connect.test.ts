/** Connections that a module opens as it starts: their SYNs wait until what answers them comes to the engine. */
import { afterEach, describe, expect, setDefaultTimeout, test } from "bun:test";
import { Engine } from "../../engine/engine.ts";
import { getAffinity } from "../../engine/host/affinity.ts";
import type { ClientData } from "../stream/modules/tcp-client.ts";
import { makeHosts, requires } from "../support/hosts.ts";
import { until } from "../support/kernel-udp.ts";

setDefaultTimeout(60_000);

const PORT = 9000;
const STARTS = 4;

const closers: (() => Promise<void> | void)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

describe.skipIf(requires("veth", "af_xdp", "bpf") !== "")("a module's first connection", () => {
  test("to a kernel that answers within microseconds: no SYN is sent twice", async () => {
    const hosts = makeHosts();
    closers.push(() => hosts.close());
    const { a, b } = hosts;
    a.rtnl.setNeighbour(a.ifindex, b.ipv4, b.mac);
    b.rtnl.setNeighbour(b.ifindex, a.ipv4, a.mac);
    const socket = {
      data: (s: Bun.Socket, bytes: Uint8Array) => void s.write(bytes),
      end: (s: Bun.Socket) => void s.end(),
    };
    const server = b.ns.run(() => Bun.listen({ hostname: b.ipv4Text, port: PORT, allowHalfOpen: true, socket }));
    closers.push(() => server.stop(true));
    for (let i = 0; i < STARTS; i++) {
      const results = new SharedArrayBuffer(12);
      const data: ClientData = { addresses: [b.ipv4Text], port: PORT, connections: 1, bytes: 64, results };
      const engine = await Engine.start({
        provider: "engine",
        interface: a.name,
        netns: a.ns.path,
        cpus: getAffinity(0).slice(-1),
        module: new URL("../stream/modules/tcp-client.ts", import.meta.url),
        data,
      });
      closers.push(() => engine.close());
      const counts = new Int32Array(results);
      await until("its end", () => Atomics.load(counts, 0) + Atomics.load(counts, 1) === 1);
      expect([...counts]).toEqual([1, 0, 0]);
      await until("the counters", () => engine.counters(0).TcpOutSegs > 0);
      expect(engine.counters(0).TCPTimeouts).toBe(0);
      await engine.close();
    }
  });
});
