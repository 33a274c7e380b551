/**
 * Runs the cases against one of the three: `bun test/dropin/net-child.ts bun|lcore '{"own4":…}'`, or bundled with `node`, in the
 * network namespace in which the sockets are to be. Prints a line of JSON a case.
 */
import type { Outcome } from "./dgram-compare.ts";
import { netCases } from "./net-cases.ts";
import { type NetAddresses, NetSide } from "./net-compare.ts";

async function main([kind, place, ...names]: readonly string[]): Promise<void> {
  const module = (kind === "lcore" ? await import("lcore/net") : await import("node:net")) as unknown as {
    default: NetSide["net"];
  };
  const at = JSON.parse(place) as NetAddresses;
  // The engine runs, and both hosts know each other, from here on.
  const greeter = new NetSide(module.default, at);
  for (const host of [at.peer4, at.peer6]) await greeter.event(greeter.connect("greet", { host }), "connect");
  await greeter.close();
  for (const [name, run] of Object.entries(netCases)) {
    if (names.length > 0 && !names.includes(name)) continue;
    const side = new NetSide(module.default, at);
    const began = performance.now();
    let outcome: Outcome;
    try {
      outcome = await run(side);
    } catch (error) {
      outcome = { failed: side.describe(error) };
    }
    await side.close();
    console.log(JSON.stringify({ name, ms: Math.round(performance.now() - began), outcome }));
  }
  process.exit();
}

if (/net-child/.test(process.argv[1]) && process.argv[2] !== undefined) await main(process.argv.slice(2));
