/** A snapshot in the Prometheus text exposition format. */
import { Counter, Gauge, Registry } from "prom-client";
import { COUNTERS } from "../../sockets/counters.ts";
import type { StatsSnapshot } from "../stats.ts";

/** "UdpInCsumErrors" as "udp_in_csum_errors". */
const snake = (name: string): string => name.replace(/([a-z0-9])([A-Z])/g, "$1_$2").toLowerCase();

export async function exposition(stats: StatsSnapshot): Promise<string> {
  const registers = [new Registry()];
  const pid = String(stats.pid);
  const labels = ["pid", "thread"];
  for (const [name, help] of COUNTERS) {
    const counter = new Counter({ name: `lcore_${snake(name)}_total`, help, labelNames: labels, registers });
    for (const thread of stats.threads) counter.inc({ pid, thread: thread.name }, thread.counters[name]);
  }
  const cpu = new Counter({
    name: "lcore_cpu_seconds_total",
    help: "CPU time of the thread",
    labelNames: labels,
    registers,
  });
  for (const { name, times } of stats.threads) {
    if (times !== null) cpu.inc({ pid, thread: name }, times.runNs / 1e9);
  }
  const verdicts = new Counter({
    name: "lcore_xdp_frames_total",
    help: "frames by what the XDP program decided",
    labelNames: ["pid", "verdict"],
    registers,
  });
  for (const [verdict, count] of Object.entries(stats.steering ?? {}))
    verdicts.inc({ pid, verdict: snake(verdict) }, count);
  addSockets(stats, registers);
  const { info } = stats;
  new Gauge({
    name: "lcore_info",
    help: "how the engine is attached",
    labelNames: ["pid", "provider", "interface", "mode", "zero_copy"],
    registers,
  }).set(
    {
      pid,
      provider: info.provider,
      interface: info.interface ?? "",
      mode: info.attach,
      zero_copy: String(info.zeroCopy),
    },
    1,
  );
  return await registers[0].metrics();
}

/** XDP_STATISTICS, a series a queue. */
function addSockets({ pid, sockets }: StatsSnapshot, registers: Registry[]): void {
  for (const key of Object.keys(sockets[0] ?? {})) {
    if (key === "lcore" || key === "queue") continue;
    const counter = new Counter({
      name: `lcore_xsk_${snake(key)}_total`,
      help: `struct xdp_statistics, ${snake(key)}`,
      labelNames: ["pid", "queue"],
      registers,
    });
    for (const socket of sockets) {
      counter.inc({ pid: String(pid), queue: socket.queue }, socket[key as keyof typeof socket]);
    }
  }
}
