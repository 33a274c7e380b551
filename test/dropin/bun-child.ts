/**
 * Runs the cases against one of the two: `bun test/dropin/bun-child.ts original|lcore '{"at":…, "peer":…}'`, in the
 * network namespace in which the sockets are to be. Prints a line of JSON a case.
 */
import { NetNs } from "../../engine/host/netns.ts";
import { openCases } from "./bun-cases-open.ts";
import { optionCases } from "./bun-cases-options.ts";
import { receiveCases } from "./bun-cases-receive.ts";
import { sendCases } from "./bun-cases-send.ts";
import { type Addresses, attempt, type Cases, Side } from "./bun-compare.ts";

export const CASES: Cases = { ...openCases, ...sendCases, ...receiveCases, ...optionCases };

async function main([kind, place, ...names]: readonly string[]): Promise<void> {
  const { at, peer, engine } = JSON.parse(place) as { at: Addresses; peer: string; engine: object };
  const ns = NetNs.open(peer);
  const dropIn = kind === "lcore" ? await import("lcore/bun") : null;
  dropIn?.configure(engine);
  const udpSocket = dropIn === null ? Bun.udpSocket : (dropIn.udpSocket as typeof Bun.udpSocket);
  await greet(new Side(udpSocket, at, ns));
  for (const [name, run] of Object.entries(CASES)) {
    if (names.length > 0 && !names.includes(name)) continue;
    const side = new Side(udpSocket, at, ns);
    const began = performance.now();
    const outcome = await attempt(async () => await run(side));
    side.close();
    const line = JSON.stringify({ name, ms: Math.round(performance.now() - began), outcome });
    // It follows from the MAC address, which differs.
    console.log(line.replaceAll(at.linkLocal, "LINK-LOCAL"));
  }
  ns.close();
}

/** Both hosts know each other's MAC addresses from here on: nothing waits for a neighbour, or overtakes what does. */
async function greet(side: Side): Promise<void> {
  for (const [hostname, address] of [
    ["0.0.0.0", side.at.a4],
    ["::", side.at.a6],
  ]) {
    const peer = side.peer(address);
    const { socket, seen } = await side.listener({ hostname });
    await side.until("the peer", () => {
      socket.send("hello", peer.port, address);
      const got = peer.take();
      if (got !== null) peer.send("hello", got.address, got.port);
      return seen.length > 10;
    });
  }
  side.close();
}

if (import.meta.main) await main(process.argv.slice(2));
