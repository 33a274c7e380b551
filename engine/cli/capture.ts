/** `lcore capture`: what a running engine receives and sends, as a capture file. */
import type { Command } from "commander";
import { PACKET_MAX } from "../../queues/pcap/format.ts";
import { RING_BYTES_MAX, RING_BYTES_MIN } from "../capture-ring.ts";
import { LCORES_MAX } from "../config.ts";
import { seconds, wholeNumber } from "./arguments.ts";

export interface CaptureOptions {
  interface?: string;
  pid?: number;
  socket?: string;
  write?: string;
  filter?: string;
  snaplen: number;
  count?: number;
  seconds?: number;
  size?: number;
  rx?: boolean;
  tx?: boolean;
  lcore?: number;
  buffer: number;
}

const KIB = 1024;

export function captureCommand(program: Command): void {
  program
    .command("capture")
    .description("capture what a running engine receives and sends: XDP takes its frames before tcpdump could see them")
    .option("--interface <if>", "the engine that serves this interface; needed where several engines run")
    .option("--pid <pid>", "the engine of this process", wholeNumber(1, 2 ** 22))
    .option("--path, --socket <path>", "the engine with this socket")
    .option("-w, --write <file>", "write pcapng to a file, or to standard output with -; default a line a frame")
    .option("--filter <expression>", "frames to capture, in the syntax of tcpdump; default all")
    .option("--snaplen <bytes>", "bytes of each frame to keep", wholeNumber(1, PACKET_MAX), PACKET_MAX)
    .option("--count <n>", "end after so many frames", wholeNumber(1, 1e12))
    .option("--seconds <n>", "end after this time", seconds(1e6))
    .option("--size <MB>", "end before the file is longer than so many million bytes", wholeNumber(1, 1e6))
    .option("--rx", "received frames only")
    .option("--tx", "sent frames only")
    .option("--lcore <n>", "one lcore only", wholeNumber(0, LCORES_MAX - 1))
    .option(
      "--buffer <KiB>",
      "ring of each lcore, a power of two; what finds it full is counted and lost",
      wholeNumber(RING_BYTES_MIN / KIB, RING_BYTES_MAX / KIB),
      8192,
    )
    .action(async (options: CaptureOptions) => {
      const { runCapture } = await import("./capture-run.ts");
      await runCapture(options);
    });
}
