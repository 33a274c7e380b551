/** Bulk with nc on the kernel's TCP, both roles, over a wire that loses, reorders and duplicates: every byte, by hash. */
import { afterEach, describe, expect, setDefaultTimeout, test } from "bun:test";
import { makeHosts, requires } from "../support/hosts.ts";
import { BadWire } from "./bad-wire.ts";
import { Bed, ECHO, exchange, payload, sha256 } from "./peers.ts";

setDefaultTimeout(60_000);

const PORT = 7000;
const missing = ["nc", "nft"].find((tool) => Bun.which(tool) === null) ?? requires("veth", "af_xdp", "bpf");

const closers: (() => Promise<void> | void)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

/** nc sends to the engine's echo, and the engine to nc's, which sends back something else. */
async function bothRoles(bed: Bed, family: "ipv4Text" | "ipv6Text", bytes: Uint8Array): Promise<void> {
  const echoed = await bed.run(["nc", "-N", "-w", "20", bed.hosts.b[family], String(PORT)], bytes);
  expect(sha256(echoed)).toBe(sha256(bytes));
  const answer = bytes.slice().reverse();
  const address = bed.peer[family];
  const server = bed.spawn(["nc", "-N", "-w", "20", "-l", address, String(PORT + 1)], answer);
  closers.push(() => server.kill("SIGKILL"));
  const heard = server.stdout.bytes();
  await bed.untilListening(PORT + 1);
  const got = await exchange(bed.engine, { address, port: PORT + 1 }, bytes);
  expect(sha256(got)).toBe(sha256(answer));
  expect(sha256(await heard)).toBe(sha256(bytes));
  await bed.untilEmpty();
}

describe.skipIf(missing !== "")(`bulk with nc${missing && `: ${missing}`}`, () => {
  test.each([
    { family: "ipv4Text", offloads: "on", loss: 10 },
    { family: "ipv6Text", offloads: "on", loss: 0 },
    { family: "ipv4Text", offloads: "off", loss: 0 },
    { family: "ipv6Text", offloads: "off", loss: 20 },
  ] as const)(
    "$family, the peer's segmentation $offloads, $loss of 1,000 packets lost each way",
    async ({ family, offloads, loss }) => {
      const bed = await Bed.make({ module: ECHO, data: { port: PORT } });
      closers.push(() => bed.close());
      const { name, ns, ethtool } = bed.hosts.a;
      if (offloads === "on") ethtool.setOffloads(name, { txChecksum: true, scatterGather: true, tso: true, gso: true });
      if (loss > 0) {
        const lost = `numgen random mod 1000 < ${loss} counter drop`;
        const hook = (way: string): string => `type filter hook ${way} device ${name} priority 0; ${lost};`;
        const table = `table netdev wire { chain in { ${hook("ingress")} }; chain out { ${hook("egress")} }; }`;
        const nft = ns.run(() => Bun.spawnSync(["nft", table]));
        expect([nft.exitCode, nft.stderr.toString()]).toEqual([0, ""]);
      }
      await bothRoles(bed, family, payload(2_000_000));
      const { TcpRetransSegs, TcpInCsumErrors } = bed.engine.counters();
      expect(TcpInCsumErrors).toBe(0);
      if (loss > 0) expect(TcpRetransSegs).toBeGreaterThan(0);
    },
  );

  test.each(["ipv4Text", "ipv6Text"] as const)(
    "%s: lost, reordered, duplicated and delayed on the way",
    async (family) => {
      const far = makeHosts();
      closers.push(() => far.close());
      const bed = await Bed.make({ module: ECHO, data: { port: PORT } });
      closers.push(() => bed.close());
      // a of the one pair and b of the other are the hosts; between them lies the wire.
      const wire = new BadWire([far.b, bed.hosts.a], {
        ...{ seed: 7, loss: 0.005, duplicate: 0.01, delayMs: 0.5, jitterMs: 0.5, reorder: 0.02, reorderMs: 1 },
      });
      closers.push(() => wire.close());
      bed.peer = far.a;
      await bothRoles(bed, family, payload(1_500_000));
      for (const { lost, duplicated, reordered } of wire.fates)
        expect([lost > 0, duplicated > 0, reordered > 0]).toEqual([true, true, true]);
      const { TCPOFOQueue, TcpRetransSegs, TCPDSACKOldSent, TCPDSACKOfoSent } = bed.engine.counters();
      expect([TCPOFOQueue, TcpRetransSegs, TCPDSACKOldSent + TCPDSACKOfoSent].map((count) => count > 0)).toEqual([
        true,
        true,
        true,
      ]);
    },
  );
});
