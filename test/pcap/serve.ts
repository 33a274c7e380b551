/** An engine in a process of its own: answers the load of argv[2] again and again, and serves argv[3]. */
import { Engine } from "../../engine/engine.ts";
import { getAffinity } from "../../engine/host/affinity.ts";

const [file, path] = process.argv.slice(2);
const engine = await Engine.start({
  cpus: getAffinity(0).slice(-1),
  frames: 1024,
  module: new URL("../engine/modules/echo.ts", import.meta.url),
  data: { port: 9000 },
  pcap: { file, addresses: ["198.18.0.1"], speed: "recorded", loop: Number.POSITIVE_INFINITY },
});
engine.serveStats(path);
engine.replay?.start();
console.log("ready");
process.on("SIGTERM", () => void engine.close());
await engine.closed;
