/** What `lcore bench` prints. */
import type { Run, Trial } from "../measure/trial.ts";
import { colour, duration, short, table, whole, wrap } from "./output.ts";

const HEAD = [
  { head: "target", align: "left" as const },
  ...["asked", "got", "lost", "p50", "p90", "p99", "p99.9", "max", "CPU"].map((head) => ({
    head,
    align: "right" as const,
  })),
];

export function benchText(run: Run): string {
  const { trials, environment } = run;
  const out: string[] = [];
  const first = trials[0];
  if (first !== undefined) {
    out.push(wrap(describe(first)), table(HEAD, trials.map(row)));
    for (const trial of trials) out.push(...remarks(trial).map((text) => wrap(text)));
  }
  const { bun, kernel, cpu, cpus, governor, steal, others, load } = environment;
  const percent = (share: number): string => `${(share * 100).toFixed(1)} %`;
  out.push(
    colour.dim(
      wrap(
        `Bun ${bun}, Linux ${kernel}, ${cpus} × ${cpu}${governor === null ? "" : `, governor ${governor}`}; load ${load.toFixed(1)} at the start, ` +
          `other programs ${percent(others)} of the CPUs, steal ${percent(steal)}`,
      ),
    ),
    "",
  );
  return out.join("\n");
}

const GENERATORS = {
  lcore: "load from lcore's generator",
  inline: "load from the lcore's own turns",
  kernel: "load from kernel sockets",
};

function describe({ workload, parameters }: Trial): string {
  const { wire, generator, size, flows, connections, queues, window, timeoutMs, spin, interface: from } = parameters;
  const tcp = workload.startsWith("tcp-");
  const where = {
    memory: "on a wire in memory",
    veth: "over veth between two network namespaces",
    host: "over the host's network",
  };
  const parts = [
    `${size} bytes`,
    tcp ? `${connections} connections` : `${flows} flows`,
    ...(queues > 1 ? [`${queues} queues`] : []),
    ...(tcp ? [] : [`at most ${window} unanswered`]),
    `lost after ${timeoutMs} ms`,
    ...(spin === null ? [] : [`spinning ${spin.ns} ns in ${spin.fraction * 100} % of them`]),
    GENERATORS[generator] + (from === null ? "" : ` on ${from.name}`),
  ];
  return `${workload} ${where[wire]}: ${parts.join(", ")}`;
}

function row(trial: Trial): string[] {
  const { latency, cpu } = trial;
  const at = (percent: number): string =>
    latency.totalCount === 0 ? "–" : duration(latency.getValueAtPercentile(percent));
  const lost = trial.sent === 0 ? 0 : trial.lost / trial.sent;
  const rate =
    trial.bytes > 0 && trial.workload === "tcp-stream"
      ? `${short((trial.bytes * 8) / trial.seconds)}bit/s`
      : `${short(trial.achievedRate)}/s`;
  return [
    trial.valid === true ? trial.target : colour.red(`${trial.target} (not valid)`),
    trial.requestedRate === null ? "max" : `${short(trial.requestedRate)}/s`,
    colour.bold(rate),
    lost === 0 ? "0" : lost < 0.0001 ? "<0.01 %" : `${(lost * 100).toFixed(2)} %`,
    colour.bold(at(50)),
    at(90),
    at(99),
    at(99.9),
    latency.totalCount === 0 ? "–" : duration(latency.maxValue),
    cpu.serverNs === null ? "–" : duration(cpu.serverNs),
  ];
}

/** What a trial's row does not show and its reader should know. */
function remarks(trial: Trial): string[] {
  const { target, valid, sent, behind, late, duplicated, wrong, skipped, search, hiccups, warmup } = trial;
  const out: string[] = [];
  if (valid !== true) out.push(colour.red(`${target}: not valid: ${valid.reason}`));
  if (search !== undefined && valid === true)
    out.push(
      `${target}: the highest rate with at most ${search.lossMax * 100} % lost, of ${search.steps.length} tried; ` +
        (search.limit === "target" ? "beyond it the target loses more" : `beyond it the ${search.limit} was the limit`),
    );
  const counts = { late, "answered twice": duplicated, wrong, "not sent for a full window": skipped };
  const told = Object.entries(counts).filter(([, count]) => count > 0);
  if (told.length > 0) out.push(`${target}: ${told.map(([name, count]) => `${whole(count)} ${name}`).join(", ")}`);
  if (behind > 0 && valid === true)
    out.push(
      colour.dim(
        `${target}: the generator was too late for ${whole(behind)} of ${whole(sent + behind + skipped)} requests and did not send them`,
      ),
    );
  if (!warmup.steady && warmup.seconds > 0)
    out.push(colour.dim(`${target}: not steady after a warm-up of ${warmup.seconds.toFixed(1)} s`));
  const { histogram } = hiccups;
  if (histogram.totalCount > 0 && histogram.maxValue > 1e6)
    out.push(
      colour.dim(
        `${target}: an idle thread beside it was woken up to ${duration(histogram.maxValue)} late (p99 ${duration(histogram.getValueAtPercentile(99))})`,
      ),
    );
  return out;
}

/** A trial's latencies as HdrHistogram's plotter reads them, microseconds. */
export function hgrm({ latency }: Trial): string {
  return latency.outputPercentileDistribution(5, 1000);
}
