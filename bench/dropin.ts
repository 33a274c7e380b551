/**
 * The drop-ins against the originals: the same echo program, its import changed, under the load of the echo benchmark.
 * Both have one CPU, which the drop-in's two threads share: the program's own and the lcore.
 */
import type { Peer, XdpMode } from "./peers.ts";
import { PEER_CPU, PORT, type Testbed } from "./testbed.ts";

const script = (name: string): string => new URL(`./peers/${name}`, import.meta.url).pathname;

/** Each drop-in and the originals that it stands for. */
export const DROPINS: readonly (readonly [dropin: string, originals: readonly string[]])[] = [
  ["dropin-bun", ["bun"]],
  ["dropin-dgram", ["dgram-bun", "dgram-node"]],
];

/** Environment of a program whose drop-in sockets are to use the peer's host and CPU. */
export function engineEnvironment({ hosts }: Testbed, mode: XdpMode): Record<string, string> {
  return { LCORE_INTERFACE: hosts.b.name, LCORE_CPUS: String(PEER_CPU), LCORE_MODE: mode };
}

function peer(name: string, title: string, command: readonly string[] | null, usesXdp: boolean): Peer {
  return {
    name,
    title,
    usesXdp,
    answers: true,
    missing: command === null ? "no node in PATH" : "",
    start: (testbed, mode) =>
      testbed.spawn(testbed.hosts.b, [...(command ?? []), String(PORT)], PEER_CPU, {
        env: usesXdp ? engineEnvironment(testbed, mode) : {},
      }),
  };
}

export function dropinPeers(): Peer[] {
  const bun = process.execPath;
  const node = Bun.which("node");
  return [
    peer("dropin-bun", "lcore/bun", [bun, script("dropin-bun.ts")], true),
    peer("bun", "Bun.udpSocket", [bun, script("bun-udp.ts")], false),
    peer("dropin-dgram", "lcore/dgram", [bun, script("dropin-dgram.ts")], true),
    peer("dgram-bun", "node:dgram, in Bun", [bun, script("node-dgram.mjs")], false),
    peer("dgram-node", "node:dgram, in Node", node === null ? null : [node, script("node-dgram.mjs")], false),
  ];
}
