/**
 * Run to completion: the application is a module on each lcore, and no datagram crosses a thread.
 *
 *     npx bun examples/run-to-completion.ts veth0 9000
 */
import { Engine } from "lcore";

const [name = "veth0", port = "9000"] = process.argv.slice(2);
const engine = await Engine.start({
  interface: name,
  poll: "busy",
  module: new URL("./run-to-completion-module.ts", import.meta.url),
  data: { port: Number(port) },
});
process.once("SIGINT", () => engine.close());
console.log(`ready: UDP ${port} on ${name}, CPU ${engine.info.cpus.join()}`);

await engine.closed;
const { UdpInDatagrams, UdpOutDatagrams, HandedOver } = engine.counters();
console.log({ UdpInDatagrams, UdpOutDatagrams, HandedOver });
