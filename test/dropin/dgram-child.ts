/**
 * Runs the cases against one of the two: `bun test/dropin/dgram-child.ts node|lcore '{"own4":…}'`, or bundled with `node`,
 * in the network namespace in which the sockets are to be. Prints a line of JSON a case.
 */
import { closeCases } from "./dgram-cases-close.ts";
import { openCases } from "./dgram-cases-open.ts";
import { receiveCases } from "./dgram-cases-receive.ts";
import { sendCases } from "./dgram-cases-send.ts";
import { type Addresses, type Cases, type Dgram, type Outcome, Side } from "./dgram-compare.ts";

export const CASES: Cases = { ...openCases, ...sendCases, ...receiveCases, ...closeCases };

async function main([kind, place, ...names]: readonly string[]): Promise<void> {
  const module = (kind === "lcore" ? await import("lcore/dgram") : await import("node:dgram")) as { default: Dgram };
  const at = JSON.parse(place) as Addresses;
  const greeter = new Side(module.default, at);
  // Both hosts know each other's MAC addresses from here on: nothing waits for a neighbour, or overtakes what does.
  await greeter.ask(await greeter.bound(), "hello");
  await greeter.ask(await greeter.bound("udp6"), "hello", 6);
  await greeter.close();
  for (const [name, run] of Object.entries(CASES)) {
    if (names.length > 0 && !names.includes(name)) continue;
    const side = new Side(module.default, at);
    const began = performance.now();
    let outcome: Outcome;
    try {
      outcome = side.describe(await run(side)) as Outcome;
    } catch (error) {
      outcome = { failed: side.describe(error) };
    }
    await side.close();
    console.log(JSON.stringify({ name, ms: Math.round(performance.now() - began), outcome }));
  }
  process.exit();
}

if (process.argv[2] !== undefined && /dgram-child/.test(process.argv[1])) await main(process.argv.slice(2));
