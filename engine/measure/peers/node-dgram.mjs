/** The target "node-dgram": as serve-child.ts, on node:dgram. JavaScript, so that any Node runs it. */
import { createSocket } from "node:dgram";
import { createInterface } from "node:readline";

const { data } = JSON.parse(process.argv[2]);
const { way, port, size, spin } = data;
const counts = { requests: 0, bytes: 0 };
const out = way === "forward" ? createSocket("udp4").bind(port + 1) : null;
const socket = createSocket("udp4");
const STREAM_BURST = 64;
let share = 0;
let peer = null;
let number = 0;

function work() {
  share += spin.fraction;
  if (share < 1) return;
  share -= 1;
  const until = performance.now() + spin.ns / 1e6;
  while (performance.now() < until);
}

/** A burst, then the event loop's turn: without it nothing else would have one. */
function stream() {
  let left = STREAM_BURST;
  for (let i = 0; i < STREAM_BURST; i++) {
    const bytes = Buffer.alloc(size);
    bytes.writeUInt32LE(number, 0);
    number = (number + 1) % 2 ** 32;
    socket.send(bytes, peer.port, peer.address, () => {
      counts.requests++;
      if (--left === 0) setImmediate(stream);
    });
  }
}

socket.on("message", (message, from) => {
  if (spin !== null) work();
  if (way === "stream") {
    const first = peer === null;
    peer = from;
    if (first) stream();
    return;
  }
  counts.requests++;
  counts.bytes += message.length;
  if (way !== "count") (out ?? socket).send(message, from.port, from.address);
});
socket.on("error", () => {});
socket.bind(port, "0.0.0.0", () => process.stdout.write("null\n"));
const lines = createInterface({ input: process.stdin });
lines.on("line", () => process.stdout.write(`${JSON.stringify(counts)}\n`));
lines.on("close", () => process.exit(0));
