/** Who is measured: each peer says what it is, why it may be missing here, and how it is started. */
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import type { PollPolicy } from "../engine/config.ts";
import type { LcoreEchoOptions } from "./peers/lcore-echo.ts";
import { type Child, PEER_CPU, PORT, type Testbed } from "./testbed.ts";

export type XdpMode = "skb" | "native";

export interface Peer {
  /** What it is called on the command line and in results. */
  readonly name: string;
  readonly title: string;
  /** False: a kernel socket, which knows no XDP mode. */
  readonly usesXdp: boolean;
  /** Whether it answers a kernel client: a frame whose MAC addresses alone are swapped is no answer. */
  readonly answers: boolean;
  /** Why it cannot run here, or "". */
  readonly missing: string;
  start(testbed: Testbed, mode: XdpMode): Child;
}

/** Programs compiled from bench/peers/*.c, in a directory of their own that goes away. */
export class CompiledPeers {
  private readonly directory = mkdtempSync(join(tmpdir(), "lcore-bench-"));
  private readonly compiler = Bun.which("cc") ?? Bun.which("gcc") ?? Bun.which("clang");

  /** Path of the program, or why there is none. */
  build(source: string): { path: string; missing: string } {
    const path = join(this.directory, source.replace(/\.c$/, ""));
    if (existsSync(path)) return { path, missing: "" };
    if (this.compiler === null) return { path, missing: "no C compiler (cc, gcc, clang) in PATH" };
    const file = new URL(`./peers/${source}`, import.meta.url).pathname;
    const result = Bun.spawnSync([this.compiler, "-O2", "-o", path, file]);
    return { path, missing: result.success ? "" : `${source}: ${result.stderr.toString().split("\n")[0]}` };
  }

  close(): void {
    rmSync(this.directory, { recursive: true, force: true });
  }
}

const script = (name: string): string => new URL(name, import.meta.url).pathname;
const L2FWD = script("../queues/af-xdp-bindings/examples/l2fwd.ts");

/** Frames a burst of the raw peers: that of the driver. */
const BATCH = "64";

/** Every peer. @param xdpsock path of the C xdpsock, or "" for none */
export function allPeers(compiled: CompiledPeers, xdpsock: string): Peer[] {
  const echo = compiled.build("udp-echo.c");
  const node = Bun.which("node");
  const kernel = { usesXdp: false, answers: true };
  const pinned = (command: string[]) => (testbed: Testbed) => testbed.spawn(testbed.hosts.b, command, PEER_CPU);
  const c = (name: string, title: string, way: string): Peer => ({
    name,
    title,
    ...kernel,
    missing: echo.missing,
    start: pinned([echo.path, String(PORT), way]),
  });
  return [
    lcorePeer("busy"),
    {
      name: "l2fwd",
      title: "raw bindings, l2fwd",
      usesXdp: true,
      answers: false,
      missing: "",
      start: (testbed, mode) =>
        testbed.spawn(
          testbed.hosts.b,
          [process.execPath, L2FWD, testbed.hosts.b.name, `--${mode}`, "--copy", "--batch", BATCH],
          PEER_CPU,
        ),
    },
    {
      name: "xdpsock",
      title: "C xdpsock -l",
      usesXdp: true,
      answers: false,
      missing: xdpsock === "" ? "no path given (--xdpsock)" : existsSync(xdpsock) ? "" : `${xdpsock}: not there`,
      start: (testbed, mode) =>
        testbed.spawn(
          testbed.hosts.b,
          [xdpsock, "-l", "-i", testbed.hosts.b.name, "-q", "0", mode === "skb" ? "-S" : "-N", "-c", "-b", BATCH],
          PEER_CPU,
          { cwd: dirname(xdpsock) },
        ),
    },
    {
      name: "bun",
      title: "Bun.udpSocket",
      ...kernel,
      missing: "",
      start: pinned([process.execPath, script("./peers/bun-udp.ts"), String(PORT)]),
    },
    {
      name: "node",
      title: node === null ? "node:dgram, in Bun" : "node:dgram, in Node",
      ...kernel,
      missing: "",
      start: pinned([node ?? process.execPath, script("./peers/node-dgram.mjs"), String(PORT)]),
    },
    c("c-batch", "C recvmmsg/sendmmsg, 64", "batch"),
    c("c-block", "C recvfrom/sendto, blocking", "block"),
    c("c-spin", "C recvfrom/sendto, spinning, SO_BUSY_POLL", "spin"),
  ];
}

export interface LcorePeerOptions {
  /** See EchoModuleData.markHeap. */
  markHeap?: boolean;
  env?: Record<string, string>;
  /** See LcoreEchoOptions.capture. */
  capture?: readonly string[] | null;
}

/** The lcore, under one of its idle policies. It places its own threads. */
export function lcorePeer(
  poll: PollPolicy,
  { markHeap = false, env = {}, capture = null }: LcorePeerOptions = {},
): Peer {
  return {
    name: poll === "busy" ? "lcore" : `lcore-${poll}`,
    title: `lcore, ${poll}`,
    usesXdp: true,
    answers: true,
    missing: "",
    start: (testbed, mode) => {
      const options = { interface: testbed.hosts.b.name, port: PORT, cpu: PEER_CPU, mode, poll, markHeap, capture };
      const command = [
        process.execPath,
        script("./peers/lcore-echo.ts"),
        JSON.stringify(options satisfies LcoreEchoOptions),
      ];
      return testbed.spawn(testbed.hosts.b, command, null, { env });
    },
  };
}
