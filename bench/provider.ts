/** Kernel sockets of the provider "kernel", in a module on an lcore and on the main thread, against Bun's and C's. */
import { allPeers, type CompiledPeers, type Peer } from "./peers.ts";
import { PEER_CPU, PORT } from "./testbed.ts";

const KERNEL_ECHO = new URL("./peers/kernel-echo.ts", import.meta.url).pathname;
/** Peers that the provider is held against. */
const OTHERS = ["bun", "c-batch", "c-block"];

export const ON_LCORE = "kernel-lcore";
export const ON_MAIN = "kernel-main";

function kernelPeer(name: string, title: string, where: "lcore" | "main"): Peer {
  const command = [process.execPath, KERNEL_ECHO, String(PORT), String(PEER_CPU), where];
  return {
    name,
    title,
    usesXdp: false,
    answers: true,
    missing: "",
    start: (testbed) => testbed.spawn(testbed.hosts.b, command, PEER_CPU),
  };
}

export function providerPeers(compiled: CompiledPeers): Peer[] {
  return [
    kernelPeer(ON_LCORE, "lcore on kernel sockets, module", "lcore"),
    kernelPeer(ON_MAIN, "lcore on kernel sockets, main thread", "main"),
    ...allPeers(compiled, "").filter(({ name }) => OTHERS.includes(name)),
  ];
}
