/** Two queues in native mode: real NAPI IDs, and sockets chosen by them and by the CPU. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { check, sys } from "af-xdp-bindings";
import { Engine } from "../../engine/engine.ts";
import { getAffinity } from "../../engine/host/affinity.ts";
import type { UdpSocket } from "../../sockets/udp-socket.ts";
import { makeHosts, requires, type VethPair } from "../support/hosts.ts";
import { KernelUdp, until } from "../support/kernel-udp.ts";

// A machine whose CPUs others use as well may take long over what is done in milliseconds.
setDefaultTimeout(60_000);

const SOL_SOCKET = 1;
const SO_INCOMING_NAPI_ID = 56;
/** Source ports: with as many flows, both queues get some. */
const FLOWS = 64;

describe.skipIf(requires("veth", "af_xdp", "bpf") !== "")("two queues", () => {
  let hosts: VethPair;
  let engine: Engine;
  const clients: KernelUdp[] = [];

  beforeAll(async () => {
    hosts = makeHosts({ queues: 2 });
    const cpu = getAffinity(0).at(-1) as number;
    engine = await Engine.start({ interface: hosts.b.name, netns: hosts.b.ns.path, cpus: [cpu], mode: "native" });
    for (let i = 0; i < FLOWS; i++) clients.push(new KernelUdp(hosts.a.ns, { address: hosts.a.ipv4Text }));
  });

  afterAll(async () => {
    await engine?.close();
    for (const client of clients) client.close();
    hosts?.close();
  });

  /** Sends a datagram from each client to a port of the engine's host. */
  function sendAll(port: number): void {
    for (const client of clients) client.send("x", hosts.b.ipv4Text, port);
  }

  test("each queue has a NAPI ID of its own, and the kernel tells the same ones of its sockets", async () => {
    const [ids] = engine.napiIds;
    expect(ids).toHaveLength(2);
    expect(new Set(ids).size).toBe(2);
    expect(ids.every((id) => id > 0)).toBeTrue();
    const seen = new Set<number>();
    const id = new Int32Array(1);
    for (const client of clients) {
      // Nothing of the engine is bound to this port: the program passes its frames on, out of the same NAPI. A socket for
      // each: Linux notes the NAPI ID of an unconnected UDP socket once (sk_mark_napi_id_once in net/ipv4/udp.c).
      const kernel = new KernelUdp(hosts.b.ns, { address: hosts.b.ipv4Text });
      client.send("x", hosts.b.ipv4Text, kernel.port);
      await kernel.receive();
      check(sys.getsockoptInt(kernel.fd, SOL_SOCKET, SO_INCOMING_NAPI_ID, id), "getsockopt(SO_INCOMING_NAPI_ID)");
      kernel.close();
      seen.add(id[0]);
    }
    expect([...seen].sort((a, b) => a - b)).toEqual(ids);
  });

  test("a reuseport group by NAPI ID: each socket gets what came on its queue, and reports it", async () => {
    const [ids] = engine.napiIds;
    const received = new Map<number, number[]>();
    const sockets: UdpSocket[] = [];
    for (const incomingNapiId of ids) {
      const port = sockets[0]?.port ?? 0;
      const socket = engine.udp({ address: hosts.b.ipv4Text, port, reusePort: true, incomingNapiId });
      const reported: number[] = [];
      received.set(incomingNapiId, reported);
      socket.onDatagram = () => {
        reported.push(socket.incomingNapiId);
      };
      sockets.push(socket);
    }
    sendAll(sockets[0].port);
    await until("all datagrams", () => [...received.values()].flat().length === FLOWS);
    for (const [id, reported] of received) {
      expect(reported.length).toBeGreaterThan(0);
      // The socket tells of the last datagram on its queue: it never saw another queue's.
      expect(new Set(reported)).toEqual(new Set([id]));
    }
    for (const socket of sockets) socket.close();
  });

  test("by SO_INCOMING_CPU: the socket that asks for the lcore's CPU gets everything", async () => {
    const [cpu] = engine.info.cpus;
    const counts = [0, 0];
    const elsewhere = engine.udp({ address: hosts.b.ipv4Text, reusePort: true, incomingCpu: cpu + 1000 });
    const here = engine.udp({ address: hosts.b.ipv4Text, port: elsewhere.port, reusePort: true, incomingCpu: cpu });
    elsewhere.onDatagram = () => {
      counts[0]++;
    };
    here.onDatagram = () => {
      counts[1]++;
    };
    sendAll(here.port);
    await until("all datagrams", () => counts[0] + counts[1] === FLOWS);
    expect(counts).toEqual([0, FLOWS]);
    expect(here.incomingCpu).toBe(cpu);
    here.close();
    elsewhere.close();
  });

  test("by hash: both members get about half of the flows", async () => {
    const counts = [0, 0];
    const first = engine.udp({ address: hosts.b.ipv4Text, reusePort: true });
    const second = engine.udp({ address: hosts.b.ipv4Text, port: first.port, reusePort: true });
    first.onDatagram = () => {
      counts[0]++;
    };
    second.onDatagram = () => {
      counts[1]++;
    };
    sendAll(first.port);
    await until("all datagrams", () => counts[0] + counts[1] === FLOWS);
    // 64 fair coins fall 13 times or fewer on one side once in 10^6 runs.
    expect(Math.min(...counts)).toBeGreaterThan(13);
    first.close();
    second.close();
  });
});
