/** What the examples share: the command line, the socket with its program, and the loop that prints rates. */
import { parseArgs } from "node:util";
import {
  attachXdp,
  interfaceIndex,
  type Link,
  loadXdp,
  redirectQueues,
  SysError,
  Umem,
  Xsk,
  XskMap,
} from "af-xdp-bindings";

/** Chunks in the UMEM: enough to fill the fill ring and the TX ring at once. */
export const CHUNKS = 4096;

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    queue: { type: "string", default: "0" },
    batch: { type: "string", default: "64" },
    native: { type: "boolean", default: false },
    skb: { type: "boolean", default: false },
    zerocopy: { type: "boolean", default: false },
    copy: { type: "boolean", default: false },
    "busy-poll": { type: "string" },
    seconds: { type: "string" },
    length: { type: "string", default: "64" },
    dst: { type: "string", default: "02:00:00:00:00:01" },
    help: { type: "boolean", short: "h", default: false },
  },
});

const USAGE = `usage: bun ${process.argv[1]} INTERFACE [options]
  --queue N        queue of the interface (0)
  --native, --skb  XDP program in the driver, or behind it; neither: native where the driver can
  --zerocopy, --copy  neither: zero copy where the driver can
  --busy-poll US   drive the queue from this thread (SO_BUSY_POLL, SO_PREFER_BUSY_POLL)
  --batch N        frames a burst, and frames a send call in copy mode (64)
  --seconds N      stop after so long; without, on SIGINT or SIGTERM
  txonly: --length N bytes a frame (64), --dst MAC destination (02:00:00:00:00:01)`;

if (values.help || positionals.length !== 1) {
  console.error(USAGE);
  process.exit(values.help ? 0 : 2);
}

/** A number of the command line, within bounds. */
function number(name: "queue" | "batch" | "length" | "seconds" | "busy-poll", min: number, max: number): number {
  const value = Number(values[name]);
  if (!Number.isInteger(value) || value < min || value > max) {
    console.error(`--${name} ${values[name]}: from ${min} to ${max}`);
    process.exit(2);
  }
  return value;
}

export const batch = number("batch", 1, 1024);
export const length = number("length", 60, 1514);
export const dst = values.dst;
const seconds = values.seconds === undefined ? Infinity : number("seconds", 1, 86_400);

let stopping = false;
process.on("SIGINT", () => {
  stopping = true;
});
process.on("SIGTERM", () => {
  stopping = true;
});

/** A bound socket, and a program that redirects its queue to it if `receives`. */
export function openSocket(receives: boolean): Xsk {
  const ifindex = interfaceIndex(positionals[0]);
  const umem = new Umem({ chunks: CHUNKS, mode: values.zerocopy ? "zerocopy" : values.copy ? "copy" : "auto" });
  const queue = number("queue", 0, 65_535);
  const busyPoll = values["busy-poll"] ? { usecs: number("busy-poll", 1, 1e6), budget: Math.max(batch, 8) } : undefined;
  // The default budget is 32 frames a call; setting it needs Linux 6.17.
  const xsk = new Xsk(umem, { ifindex, queue, busyPoll, maxTxBudget: batch > 32 ? batch : undefined });
  xsk.bind();
  let program = "no XDP program";
  if (receives) {
    const sockets = XskMap.create(queue + 1);
    sockets.set(queue, xsk.fd);
    program = attach(sockets, ifindex);
  }
  console.log(`${positionals[0]} queue ${queue}: ${xsk.zeroCopy ? "zero copy" : "copy"} mode, ${program}`);
  return xsk;
}

/** The program leaves with the link's descriptor, however the process ends. */
let link: Link;

function attach(sockets: XskMap, ifindex: number): string {
  const program = loadXdp(redirectQueues(sockets), { name: "redirect_queues" });
  try {
    link = attachXdp(program, ifindex, values.skb ? "skb" : "native");
    return values.skb ? "skb XDP" : "native XDP";
  } catch (error) {
    if (values.native || !(error instanceof SysError && error.code === "EOPNOTSUPP")) throw error;
    link = attachXdp(program, ifindex, "skb");
    return "skb XDP (the driver has no native)";
  }
}

/**
 * Calls `step` until a signal or the time is up; it returns the frames it handled. Between slices of 50 ms the event
 * loop has its turn, so that signals arrive. Prints the rate once a second, and the average at the end.
 */
export async function run(xsk: Xsk, step: () => number): Promise<void> {
  const start = performance.now();
  let total = 0;
  let printedAt = start;
  let printedTotal = 0;
  while (!stopping && performance.now() - start < seconds * 1000) {
    const sliceEnd = performance.now() + 50;
    // Reading the clock costs about as much as handling a frame: once in 64 steps is often enough.
    do for (let i = 0; i < 64; i++) total += step();
    while (performance.now() < sliceEnd);
    await new Promise((resolve) => setImmediate(resolve));
    const now = performance.now();
    if (now - printedAt >= 1000) {
      console.log(`${Math.round(((total - printedTotal) * 1000) / (now - printedAt))} frames/s`);
      printedAt = now;
      printedTotal = total;
    }
  }
  const elapsed = performance.now() - start;
  console.log(`${total} frames in ${(elapsed / 1000).toFixed(1)} s: ${Math.round((total * 1000) / elapsed)} frames/s`);
  console.log(xsk.statistics());
  link?.close();
  xsk.close();
  xsk.umem.close();
}
