/** HTTP on veth: wrk, on the kernel's TCP, asks 64 connections' worth of small answers of `lcore http` and of others. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { PollPolicy } from "../engine/config.ts";
import { engineEnvironment } from "./dropin.ts";
import { ANSWER } from "./peers/http-answer.ts";
import type { XdpMode } from "./peers.ts";
import type { TcpLoad, TcpServer } from "./tcp-peers.ts";
import { GENERATOR_CPU, PEER_CPU, PORT } from "./testbed.ts";

export const WRK = "wrk, 64 connections, a small answer";
export const WRK_NODE = "wrk, 64 connections, a handler of node:http";

const script = (name: string): string => new URL(`./peers/${name}`, import.meta.url).pathname;
const MAIN = new URL("../engine/cli/main.ts", import.meta.url).pathname;

/** A directory with the answer as its index, gone with this process. */
let root = "";
function directory(): string {
  if (root === "") {
    root = mkdtempSync(join(tmpdir(), "lcore-bench-"));
    writeFileSync(join(root, "index.html"), ANSWER);
    process.once("exit", () => rmSync(root, { recursive: true, force: true }));
  }
  return root;
}

const lcoreHttp = (poll: PollPolicy, mode: XdpMode): TcpServer => ({
  title: `lcore http, ${poll}`,
  start: (testbed) => {
    const where = ["--interface", testbed.hosts.b.name, "--port", String(PORT), "--root", directory()];
    const how = ["--cpus", String(PEER_CPU), "--poll", poll, "--mode", mode];
    return testbed.spawn(testbed.hosts.b, [process.execPath, MAIN, "http", ...where, ...how], null);
  },
});

const bunServe = (way: "fetch" | "route"): TcpServer => ({
  title: way === "fetch" ? "Bun.serve" : "Bun.serve, static route",
  start: (testbed) =>
    testbed.spawn(testbed.hosts.b, [process.execPath, script("http-bun.ts"), String(PORT), way], PEER_CPU),
});

const nodeHttp = (name: "node:http" | "lcore/http", mode: XdpMode): TcpServer => ({
  title: name === "node:http" ? "node:http, in Bun" : name,
  start: (testbed) =>
    testbed.spawn(testbed.hosts.b, [process.execPath, script("http-node.ts"), String(PORT), name], PEER_CPU, {
      env: name === "node:http" ? {} : engineEnvironment(testbed, mode),
    }),
});

const wrkLoad = (connections: number): TcpLoad => ({
  title: "wrk",
  start: (testbed, { measureMs, warmupMs }) => {
    const url = `http://${testbed.hosts.b.ipv4Text}:${PORT}/`;
    const times = [connections, warmupMs, measureMs].map(String);
    return testbed.spawn(testbed.hosts.a, [process.execPath, script("wrk-load.ts"), url, ...times], GENERATOR_CPU);
  },
});

/** Rows as those of tcp.ts; none without wrk. */
export function httpCases(mode: XdpMode, connections: number) {
  if (Bun.which("wrk") === null) return [];
  const load = wrkLoad(connections);
  return [
    ...[lcoreHttp("busy", mode), lcoreHttp("adaptive", mode), bunServe("fetch"), bunServe("route")].map((server) => ({
      ...{ what: WRK, server, load },
    })),
    ...[nodeHttp("lcore/http", mode), nodeHttp("node:http", mode)].map((server) => ({
      ...{ what: WRK_NODE, server, load },
    })),
  ];
}
