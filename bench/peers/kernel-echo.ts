/**
 * A UDP echo on the kernel provider: `bun bench/peers/kernel-echo.ts PORT CPU lcore|main`, in a module on an lcore, or by a
 * socket of the main thread. Prints a line of JSON when it serves, and its counters when it is told to stop (SIGTERM).
 */
import { Engine } from "../../engine/engine.ts";

const [port, cpu] = process.argv.slice(2, 4).map(Number);
const onLcore = process.argv[4] === "lcore";
const engine = await Engine.start({
  provider: "kernel",
  // The main thread is on its CPU from the start.
  ...(onLcore
    ? { cpus: [cpu], module: new URL("./echo-module.ts", import.meta.url), data: { port, markHeap: false } }
    : {}),
});
if (!onLcore) {
  engine.udp({ port }).onDatagram = (datagram) => {
    datagram.reply();
  };
}
console.log(JSON.stringify(engine.info));
process.on("SIGTERM", async () => {
  const nonZero = Object.entries(engine.counters()).filter(([, value]) => value !== 0);
  console.log(JSON.stringify(Object.fromEntries(nonZero)));
  await engine.close();
  process.exit(0);
});
await engine.closed;
