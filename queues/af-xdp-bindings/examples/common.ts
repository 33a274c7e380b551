/** What the examples share: the socket with its program, and the loop that prints rates. */
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
import { args } from "./arguments.ts";

/** Chunks in the UMEM: enough to fill the fill ring and the TX ring at once. */
export const CHUNKS = 4096;

let stopping = false;
process.on("SIGINT", () => {
  stopping = true;
});
process.on("SIGTERM", () => {
  stopping = true;
});

/** A bound socket, and a program that redirects its queue to it if `receives`. */
export function openSocket(receives: boolean): Xsk {
  const ifindex = interfaceIndex(args.interface);
  const umem = new Umem({ chunks: CHUNKS, mode: args.mode });
  const { queue, batch } = args;
  const busyPoll = args.busyPoll > 0 ? { usecs: args.busyPoll, budget: batch } : undefined;
  // The default budget is 32 frames a call; setting it needs Linux 6.17.
  const xsk = new Xsk(umem, { ifindex, queue, busyPoll, maxTxBudget: batch > 32 ? batch : undefined });
  xsk.bind();
  let program = "no XDP program";
  if (receives) {
    const sockets = XskMap.create(queue + 1);
    sockets.set(queue, xsk.fd);
    program = attach(sockets, ifindex);
  }
  console.log(`${args.interface} queue ${queue}: ${xsk.zeroCopy ? "zero copy" : "copy"} mode, ${program}`);
  return xsk;
}

/** The program leaves with the link's descriptor, however the process ends. */
let link: Link | undefined;

function attach(sockets: XskMap, ifindex: number): string {
  const program = loadXdp(redirectQueues(sockets), { name: "redirect_queues" });
  try {
    link = attachXdp(program, ifindex, args.xdp ?? "native");
    return `${args.xdp ?? "native"} XDP`;
  } catch (error) {
    if (args.xdp || !(error instanceof SysError && error.code === "EOPNOTSUPP")) throw error;
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
  while (!stopping && performance.now() - start < args.seconds * 1000) {
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
