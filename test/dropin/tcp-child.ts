/**
 * Runs the cases of Bun.listen and Bun.connect against one of the two: `bun test/dropin/tcp-child.ts original|lcore '{"at":…}'`,
 * in the network namespace in which the sockets are to be. Prints a line of JSON a case.
 */
import { NetNs } from "../../engine/host/netns.ts";
import { attempt } from "./bun-compare.ts";
import { tcpLifeCases } from "./tcp-cases-life.ts";
import { tcpOpenCases } from "./tcp-cases-open.ts";
import { tcpWriteCases } from "./tcp-cases-write.ts";
import { type TcpAddresses, type TcpCases, type TcpFunctions, TcpSide } from "./tcp-compare.ts";

export const TCP_CASES: TcpCases = { ...tcpOpenCases, ...tcpLifeCases, ...tcpWriteCases };

/** The original tells of timeouts every four seconds: these go on beside the others. */
const SLOW = ["timeout"];

async function main([kind, place, ...names]: readonly string[]): Promise<void> {
  const { at, peer, engine } = JSON.parse(place) as { at: TcpAddresses; peer: string; engine: object };
  const ns = NetNs.open(peer);
  const functions = (kind === "lcore" ? await dropIn(engine) : Bun) as TcpFunctions;
  const play = async (name: string): Promise<void> => {
    const side = new TcpSide(functions, at, ns);
    const began = performance.now();
    const outcome = await attempt(async () => await TCP_CASES[name](side));
    side.close();
    console.log(JSON.stringify({ name, ms: Math.round(performance.now() - began), outcome }));
  };
  const wanted = Object.keys(TCP_CASES).filter((name) => names.length === 0 || names.includes(name));
  const slow = wanted.filter((name) => SLOW.includes(name)).map(play);
  for (const name of wanted) if (!SLOW.includes(name)) await play(name);
  await Promise.all(slow);
  ns.close();
}

async function dropIn(engine: object): Promise<unknown> {
  const bun = await import("lcore/bun");
  bun.configure(engine);
  await bun.defaultEngine();
  return bun;
}

if (import.meta.main) {
  await main(process.argv.slice(2));
  process.exit(0);
}
