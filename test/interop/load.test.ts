/** Load of others: wrk against `lcore http`, iperf3 through a relay of lcore/net to its own server. */
import { afterEach, describe, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { useEngine } from "../../engine/dropin/default-engine.ts";
import net from "../../engine/dropin/net.ts";
import { Cli } from "../engine/cli/cli.ts";
import { makeHosts, requires } from "../support/hosts.ts";
import { Bed } from "./peers.ts";

setDefaultTimeout(60_000);

const missing = requires("veth", "af_xdp", "bpf");
const PORT = 8080;
const CONNECTIONS = 64;
const IPERF = 5201;
const BYTES = 8 << 20;

const closers: (() => Promise<void> | void)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

describe.skipIf(missing !== "" || Bun.which("wrk") === null)("wrk", () => {
  test("64 connections to lcore http: no socket error, and the server counts the same requests", async () => {
    const hosts = makeHosts();
    closers.push(() => hosts.close());
    const root = mkdtempSync(join(tmpdir(), "lcore-root-"));
    closers.push(() => rmSync(root, { recursive: true }));
    writeFileSync(join(root, "index.html"), "hello\n");
    const args = ["http", "--interface", "veth0", "--port", String(PORT), "--root", root, "--json"];
    const server = new Cli(args, { ns: hosts.b.ns });
    closers.push(() => server.kill("SIGKILL"));
    await server.stdout.until('{"event":"ready"');
    const url = `http://${hosts.b.ipv4Text}:${PORT}/`;
    const command = ["wrk", "-t", "1", "-c", String(CONNECTIONS), "-d", "1s", "--timeout", "20s", url];
    const wrk = hosts.a.ns.run(() => Bun.spawn(command, { stdout: "pipe", stderr: "pipe" }));
    closers.push(() => wrk.kill("SIGKILL"));
    const report = await wrk.stdout.text();
    expect(await wrk.exited).toBe(0);
    expect(report).not.toMatch(/Socket errors|Non-2xx/);
    const asked = Number(/(\d+) requests in/.exec(report)?.[1]);
    expect(asked).toBeGreaterThan(CONNECTIONS);
    server.kill("SIGTERM");
    const { status, stdout, stderr } = await server.finish();
    expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
    const { http } = JSON.parse(stdout.trim().split("\n").at(-1) ?? "");
    expect(http.connections).toBeGreaterThanOrEqual(CONNECTIONS);
    // At its end wrk leaves a request of each connection unanswered, or its answer unread.
    expect(http.requests - asked).toBeGreaterThanOrEqual(0);
    expect(http.requests - asked).toBeLessThanOrEqual(CONNECTIONS);
  });
});

interface IperfReport {
  error?: string;
  end: { sum_sent: { bytes: number } };
}

describe.skipIf(missing !== "" || Bun.which("iperf3") === null)("iperf3", () => {
  test("through a relay: its four connections and its control, both ways, IPv4 and IPv6", async () => {
    const bed = await Bed.make();
    closers.push(() => bed.close());
    useEngine(bed.engine);
    closers.push(() => useEngine(null));
    let relayed = 0;
    const relay = net.createServer((near) => {
      relayed++;
      const far = net.connect(IPERF + 1, bed.peer.ipv4Text);
      for (const [one, other] of [
        [near, far],
        [far, near],
      ]) {
        one.pipe(other);
        // iperf3 ends with a reset where it has not read everything, and pipe() leaves the other end open.
        one.on("error", () => {}).on("close", () => other.destroySoon());
      }
    });
    await new Promise<void>((resolve) => relay.listen(IPERF, resolve));
    const client = ["iperf3", "-J", "-p", String(IPERF), "-n", String(BYTES), "-P", "4", "-c"];
    for (const more of [[bed.hosts.b.ipv4Text], [bed.hosts.b.ipv6Text, "-R"]]) {
      // A server that stays is busy for a while after its client has ended.
      const server = bed.spawn(["iperf3", "-s", "-1", "-p", String(IPERF + 1)]);
      closers.push(() => server.kill("SIGKILL"));
      await bed.untilListening(IPERF + 1);
      const report = JSON.parse((await bed.run([...client, ...more])).toString()) as IperfReport;
      expect(report.error).toBeUndefined();
      expect(report.end.sum_sent.bytes).toBeGreaterThanOrEqual(BYTES);
      expect(await server.exited).toBe(0);
    }
    expect(relayed).toBe(10);
    await new Promise((resolve) => relay.close(resolve));
    await bed.untilEmpty();
  });
});
