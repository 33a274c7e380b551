/** BPF programs on engines that serve a veth, and on kernel sockets: what groups and filters do with datagrams of another host. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { createMap, Program, sys } from "af-xdp-bindings";
import { selectByFirstByte } from "../../bench/bpf.ts";
import { Engine } from "../../engine/engine.ts";
import { sockFprog } from "../../sockets/bpf/classic.ts";
import {
  SO_ATTACH_FILTER,
  SO_ATTACH_REUSEPORT_CBPF,
  SO_ATTACH_REUSEPORT_EBPF,
  SO_DETACH_FILTER,
  SOL_SOCKET,
} from "../../sockets/options.ts";
import { PLACEHOLDER } from "../../sockets/table.ts";
import type { UdpSocket } from "../../sockets/udp-socket.ts";
import { makeHosts, requires, type VethPair } from "../support/hosts.ts";
import { KernelUdp, until } from "../support/kernel-udp.ts";

setDefaultTimeout(60_000);

const MEMBERS = 3;
/** First bytes of payloads: indices, with some that no member has. */
const INDICES = [0, 1, 2, 2, 1, 0, 0, 2, 1, 1, 2, 0];
/** The first byte of the payload is the index. */
const BY_PAYLOAD = "ldb [0]\nret a";
/** Longer than the MTU: comes in fragments, beside a kernel by the placeholder. */
const LONG = 4000;

describe.skipIf(requires("veth", "af_xdp", "bpf") !== "")("over a veth", () => {
  let plain: VethPair;
  let hosts: VethPair;
  let engine: Engine;
  let byKernel: Engine;

  beforeAll(async () => {
    plain = makeHosts();
    hosts = makeHosts();
    engine = await Engine.start({ interface: hosts.b.name, netns: hosts.b.ns.path });
    byKernel = await Engine.start({ provider: "kernel", netns: plain.b.ns.path });
  });
  afterAll(async () => {
    await byKernel?.close();
    await engine?.close();
    hosts?.close();
    plain?.close();
  });

  /** A group, what it receives in order: the members' numbers. */
  interface Group {
    readonly address: string;
    readonly from: KernelUdp;
    readonly port: number;
    next(): Promise<number>;
    close(): void;
  }

  function kernelGroup(attach: (fds: number[]) => void): Group {
    const sockets: KernelUdp[] = [];
    for (let i = 0; i < MEMBERS; i++) {
      const port = sockets[0]?.port ?? 0;
      sockets.push(new KernelUdp(plain.b.ns, { address: plain.b.ipv4Text, port, reusePort: true }));
    }
    attach(sockets.map(({ fd }) => fd));
    const from = new KernelUdp(plain.a.ns, { address: plain.a.ipv4Text });
    return {
      address: plain.b.ipv4Text,
      from,
      port: sockets[0].port,
      async next() {
        let got = -1;
        await until("a datagram", () => {
          got = sockets.findIndex((socket) => socket.take() !== null);
          return got >= 0;
        });
        return got;
      },
      close() {
        for (const socket of [...sockets, from]) socket.close();
      },
    };
  }

  function engineGroup(of: Engine, attach: (sockets: UdpSocket[]) => void): Group {
    const pair = of === engine ? hosts : plain;
    const sockets: UdpSocket[] = [];
    for (let i = 0; i < MEMBERS; i++) {
      const port = sockets[0]?.port ?? 0;
      sockets.push(of.udp({ address: pair.b.ipv4Text, port, reusePort: true }));
    }
    attach(sockets);
    const from = new KernelUdp(pair.a.ns, { address: pair.a.ipv4Text });
    const datagram = sockets[0].newDatagram();
    return {
      address: pair.b.ipv4Text,
      from,
      port: sockets[0].port,
      async next() {
        let got = -1;
        await until("a datagram", () => {
          got = sockets.findIndex((socket) => socket.receiveInto(datagram) >= 0);
          datagram.release();
          return got >= 0;
        });
        return got;
      },
      close() {
        for (const socket of [...sockets, from]) socket.close();
      },
    };
  }

  async function play({ address, from, port, next, close }: Group): Promise<number[]> {
    const got: number[] = [];
    for (const length of [9, LONG]) {
      for (const index of INDICES) {
        const payload = new Uint8Array(length);
        payload[0] = index;
        from.send(payload, address, port);
        got.push(await next());
      }
    }
    close();
    return got;
  }

  test("a classic program: the same members as the kernel's, fragments among them", async () => {
    const classic = (socket: UdpSocket): void =>
      socket.setsockopt(SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, sockFprog(BY_PAYLOAD));
    const attach = ([fd]: number[]): void => {
      expect(sys.setsockopt(fd, SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, sockFprog(BY_PAYLOAD))).toBe(0);
    };
    const expected = await play(kernelGroup(attach));
    expect(expected).toEqual([...INDICES, ...INDICES]);
    for (const each of [engine, byKernel]) {
      expect(await play(engineGroup(each, ([socket]) => classic(socket)))).toEqual(expected);
    }
  });

  test("an sk_reuseport program that selects from a map of sockets", async () => {
    const kernelMap = () =>
      createMap({ type: "BPF_MAP_TYPE_REUSEPORT_SOCKARRAY", keySize: 4, valueSize: 8, maxEntries: 4 });
    // In another order than that of bind.
    const place = (i: number): Uint8Array => new Uint8Array(Uint32Array.of(MEMBERS - 1 - i).buffer);
    const fill = (map: ReturnType<typeof kernelMap>, fds: readonly number[]): void =>
      fds.forEach((fd, i) => {
        map.update(place(i), new Uint8Array(BigUint64Array.of(BigInt(fd)).buffer));
      });
    const maps = [kernelMap(), kernelMap()];
    const attach = (fds: number[]): void => {
      fill(maps[0], fds);
      const program = Program.load(selectByFirstByte(maps[0]), { type: "BPF_PROG_TYPE_SK_REUSEPORT" });
      expect(sys.setsockoptInt(fds[0], SOL_SOCKET, SO_ATTACH_REUSEPORT_EBPF, program.fd)).toBe(0);
      program.close();
    };
    const expected = await play(kernelGroup(attach));
    expect(expected).toEqual([...INDICES, ...INDICES].map((index) => MEMBERS - 1 - index));
    const onEngine = engineGroup(engine, (sockets) => {
      const map = engine.bpf.createMap({ type: "reuseport_sockarray", valueSize: 8, maxEntries: 4 });
      sockets.forEach((socket, i) => {
        map.setSocket(MEMBERS - 1 - i, socket.id);
      });
      const program = engine.bpf.load({ type: "sk_reuseport", instructions: selectByFirstByte(map).assemble() });
      sockets[2].setsockopt(SOL_SOCKET, SO_ATTACH_REUSEPORT_EBPF, program.handle);
      program.close();
      engine.bpf.closeMap(map);
    });
    expect(await play(onEngine)).toEqual(expected);
    const onKernel = engineGroup(byKernel, (sockets) => {
      fill(
        maps[1],
        sockets.map(({ endpoint, id }) => endpoint.table.get(id, PLACEHOLDER)),
      );
      const program = byKernel.bpf.load({ type: "sk_reuseport", instructions: selectByFirstByte(maps[1]).assemble() });
      sockets[2].setsockopt(SOL_SOCKET, SO_ATTACH_REUSEPORT_EBPF, program.handle);
      program.close();
    });
    expect(await play(onKernel)).toEqual(expected);
    for (const map of maps) map.close();
    expect(() => byKernel.bpf.createMap({ type: "array", valueSize: 4, maxEntries: 1 })).toThrow("EOPNOTSUPP");
  });

  test("what is attached holds for every datagram that is sent after the call", async () => {
    const socket = engine.udp({ address: hosts.b.ipv4Text });
    const from = new KernelUdp(hosts.a.ns, { address: hosts.a.ipv4Text });
    const datagram = socket.newDatagram();
    let dropped = 0;
    for (let i = 0; i < 300; i++) {
      const drops = i % 3 !== 0;
      if (drops) socket.setsockopt(SOL_SOCKET, SO_ATTACH_FILTER, sockFprog("ret #0"));
      else if (i > 0) socket.setsockopt(SOL_SOCKET, SO_DETACH_FILTER, 0);
      from.send(`${i}`, hosts.b.ipv4Text, socket.port);
      let got = "";
      await until("a datagram or a drop", () => {
        if (socket.receiveInto(datagram) >= 0) got = datagram.text();
        return got !== "" || socket.drops > dropped;
      });
      if (drops) dropped++;
      expect([i, got, socket.drops]).toEqual([i, drops ? "" : `${i}`, dropped]);
    }
    datagram.release();
    socket.close();
    from.close();
  });

  test("datagrams to a multicast group: each member's own filter", async () => {
    const GROUP = "239.1.2.3";
    for (const each of [engine, byKernel]) {
      const pair = each === engine ? hosts : plain;
      const sockets = [5, 0].map((kept, i) => {
        const socket = each.udp({ port: 7100, reuseAddress: true });
        socket.joinGroup(GROUP, pair.b.ifindex);
        socket.setsockopt(SOL_SOCKET, SO_ATTACH_FILTER, sockFprog(i === 0 ? `ret #${8 + kept}` : "ret #0"));
        return socket;
      });
      const from = new KernelUdp(pair.a.ns, { address: pair.a.ipv4Text });
      const IP_MULTICAST_IF = 32;
      expect(sys.setsockopt(from.fd, 0, IP_MULTICAST_IF, pair.a.ipv4)).toBe(0);
      from.send("multicast", GROUP, 7100);
      const received = await sockets[0].receive();
      expect(received.text()).toBe("multi");
      received.release();
      await until("the drop", () => sockets[1].drops === 1);
      for (const one of [...sockets, from]) one.close();
    }
  });
});
