/**
 * The load of the echo benchmarks, a program of its own on one CPU: `lcore bench`'s generator in a closed loop, the same for
 * every peer, whether it answers (addresses and ports swapped) or only turns frames round (MAC addresses swapped).
 *
 *     bun bench/load.ts '{"interface":"veth0", …}'      an EchoLoadOptions
 *
 * Until the first frame comes back it sends one every few milliseconds: who is measured needs no handshake. Its standard
 * output is a line "measuring" when the warm-up is over, and a line of JSON at the end, an EchoLoadResult.
 */
import { interfaceIndex } from "af-xdp-bindings";
import { difference } from "../engine/measure/board.ts";
import { LoadThread } from "../engine/measure/load-thread.ts";

export interface EchoLoadOptions {
  interface: string;
  cpu: number;
  /** MAC addresses as 12 hexadecimal digits. */
  sourceMac: string;
  destinationMac: string;
  /** IPv4 addresses, 4 bytes each. */
  source: number[];
  destination: number[];
  /** UDP port of the echo. */
  port: number;
  /** Bytes a frame, without FCS; at least 60. */
  size: number;
  /** Source ports used in turn. */
  flows: number;
  /** Frames in flight at most. */
  window: number;
  /** Frames sent at once at least, so that both sides work in bursts. */
  burst: number;
  warmupMs: number;
  measureMs: number;
  /** How long to wait for the first echo. */
  patienceMs: number;
}

export interface EchoLoadResult {
  /** Right frames that came back while measuring, those that did not in time, and those that were not what was sent. */
  received: number;
  lost: number;
  wrong: number;
  elapsedMs: number;
  /** Part of the time that the generator had nothing to do, 0 to 1: near 0, it is the generator that is measured. */
  idle: number;
  /** Milliseconds its thread waited for its CPU while measuring. */
  waitedMs: number;
}

/** Ethernet, IPv4 and UDP headers. */
const HEADERS = 42;
const FIRST_PORT = 10_000;
/** Frames are given up after so long: far more than a queue of them takes. */
const TIMEOUT_MS = 50;
/** Probes a second until the first answer. */
const PROBE_RATE = 500;
/** Time for the generator to see that it is told to stop, and for its last probes to come back. */
const PAUSE_MS = 60;

async function main(options: EchoLoadOptions): Promise<void> {
  const { cpu, flows, window, burst, size, port, patienceMs } = options;
  const thread = await LoadThread.generator({
    link: { kind: "xdp", ifindex: interfaceIndex(options.interface), queues: [0], mode: "skb" },
    cpu,
    sourceMac: Uint8Array.fromHex(options.sourceMac),
    destinationMac: Uint8Array.fromHex(options.destinationMac),
    source: Uint8Array.from(options.source),
    destination: Uint8Array.from(options.destination),
    sourcePort: FIRST_PORT,
    destinationPort: port,
    flows,
    payload: size - HEADERS,
    window,
    burst,
    timeoutMs: TIMEOUT_MS,
    mirror: true,
  });
  const { board } = thread;
  const deadline = performance.now() + patienceMs;
  board.send(true, PROBE_RATE);
  while (board.count().received === 0) {
    if (performance.now() > deadline) throw new Error(`no echo came back within ${patienceMs} ms`);
    await Bun.sleep(1);
  }
  board.send(false);
  await Bun.sleep(PAUSE_MS);
  board.send(true, 0);
  await Bun.sleep(options.warmupMs);
  console.log("measuring");
  const before = board.snapshot();
  await Bun.sleep(options.measureMs);
  const { counters, seconds, waitNs } = difference(before, board.snapshot());
  const { received, lost, wrong, busyNs } = counters;
  const idle = Math.max(0, 1 - busyNs / (seconds * 1e9));
  const result: EchoLoadResult = { received, lost, wrong, elapsedMs: seconds * 1000, idle, waitedMs: waitNs / 1e6 };
  console.log(JSON.stringify(result));
  await thread.stop();
}

if (import.meta.main) {
  try {
    await main(JSON.parse(process.argv[2]) as EchoLoadOptions);
    process.exit(0);
  } catch (error) {
    console.error((error as Error).message);
    process.exit(1);
  }
}
