/** The examples' command line. */
import { parseArgs } from "node:util";

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

const busyPoll = values["busy-poll"] === undefined ? 0 : number("busy-poll", 1, 1_000_000);

export const args = {
  interface: positionals[0],
  queue: number("queue", 0, 65_535),
  /** Frames a burst. */
  batch: number("batch", 1, 1024),
  /** Undefined: what the driver can. */
  xdp: values.skb ? "skb" : values.native ? "native" : undefined,
  mode: values.zerocopy ? "zerocopy" : values.copy ? "copy" : "auto",
  /** Microseconds, 0 for off. */
  busyPoll,
  seconds: values.seconds === undefined ? Infinity : number("seconds", 1, 86_400),
  /** Bytes a frame. */
  length: number("length", 60, 1514),
  dst: values.dst,
} as const;
