/**
 * SO_REUSEPORT over lcores: a socket on each, all on one port, each preferred for what arrives on its own CPU. Needs as
 * many queues as CPUs are named.
 *
 *     npx bun examples/reuseport.ts veth0 9000 0,1
 */
import { Engine } from "lcore";

const [name = "veth0", port = "9000", cpus = "0,1"] = process.argv.slice(2);
const engine = await Engine.start({
  interface: name,
  cpus: cpus.split(",").map(Number),
  module: new URL("./reuseport-module.ts", import.meta.url),
  data: { port: Number(port) },
});
process.once("SIGINT", () => engine.close());
console.log(`ready: UDP ${port} on ${name}, queues ${JSON.stringify(engine.info.queues)}`);

await engine.closed;
engine.info.cpus.forEach((cpu, lcore) => {
  const { UdpInDatagrams, HandedOver } = engine.counters(lcore);
  console.log(`CPU ${cpu}: ${UdpInDatagrams} datagrams, ${HandedOver} of them handed to another lcore`);
});
