/**
 * What the steering program costs in the kernel, against a program that only redirects: nanoseconds a frame, from
 * BPF_PROG_TEST_RUN over a million runs, the best and the median of seven.
 *
 *     bun bench/steering.ts
 */
import {
  Assembler,
  check,
  loadXdp,
  type Program,
  r1,
  r2,
  r3,
  r6,
  redirectQueues,
  sys,
  testRunXdp,
  XDP_MD,
  XDP_PASS,
} from "af-xdp-bindings";
import { steeringCode } from "../engine/steering/code.ts";
import { IPPROTO_UDP, METADATA, STAMP, V4_ANY, V6_ANY } from "../engine/steering/layout.ts";
import { Steering } from "../engine/steering/program.ts";

const RUNS = 1_000_000;
const REPEATS = 7;
const AF_XDP = 44;
const SOCK_RAW = 3;

const MAC = "020000000001";
const ETHERNET = `${MAC}020000000002`;
const V4 = "c6120001";
const V6 = "20010db8000000000000000000000001";
const WILDCARD = 7;
const STAMPED = 8;
const BOUND = 9;
const BOUND_SECOND = 10;
const NOTHING = 11;

const hex = (text: string): Uint8Array => Uint8Array.fromHex(text);
const udp = (port: number): string => `0001${port.toString(16).padStart(4, "0")}00080000${"00".repeat(18)}`;
const frame4 = (port: number, tag = ""): Uint8Array =>
  hex(`${ETHERNET}${tag}08004500001c0000000040110000c6120002${V4}${udp(port)}`);
const frame6 = (port: number): Uint8Array =>
  hex(`${ETHERNET}86dd6000000000081140${"20010db8000000000000000000000002"}${V6}${udp(port)}`);

/** Takes a stamp back, as every run of a test works on the same buffer. */
const withoutStamp = (): Assembler =>
  new Assembler().mov(r6, r1).mov(r2, METADATA.size).call("xdp_adjust_meta").mov(r1, r6);

function measure(name: string, program: Program, frame: Uint8Array): void {
  const times = Array.from({ length: REPEATS }, () => testRunXdp(program, frame, { repeat: RUNS }).durationNs);
  times.sort((a, b) => a - b);
  console.log(`${name.padEnd(44)} ${String(times[0]).padStart(4)} ${String(times[REPEATS >> 1]).padStart(4)} ns`);
}

const steering = Steering.load({ mac: hex(MAC), queues: 1 });
steering.xskmap.set(0, check(sys.socket(AF_XDP, SOCK_RAW, 0), "socket(AF_XDP)"));
steering.setLocals([hex(V4), hex(V6)]);
steering.setPort(IPPROTO_UDP, WILDCARD, V4_ANY | V6_ANY);
steering.setPort(IPPROTO_UDP, STAMPED, V4_ANY | STAMP);
steering.bindAddress(IPPROTO_UDP, 4, hex(V4), BOUND);
steering.bindAddress(IPPROTO_UDP, 6, hex(V6), BOUND);
// The port's entry holds the first address, so the second is found in the table.
steering.bindAddress(IPPROTO_UDP, 4, hex("c6120003"), BOUND_SECOND);
steering.bindAddress(IPPROTO_UDP, 4, hex(V4), BOUND_SECOND);

const fds = steering.descriptors();
const stamping = loadXdp(
  steeringCode(
    {
      xskmap: { fd: fds.xskmap },
      host: { fd: fds.host },
      ports: { fd: fds.ports },
      bound: { fd: fds.bound },
      locals: { fd: fds.locals },
      counters: { fd: fds.counters },
    },
    withoutStamp(),
  ),
);
const bare = loadXdp(redirectQueues(steering.xskmap));
const bareWithReset = loadXdp(
  withoutStamp()
    .load32(r2, r6, XDP_MD.rx_queue_index)
    .mapFd(r1, steering.xskmap)
    .mov(r3, XDP_PASS)
    .call("redirect_map")
    .exit(),
);

console.log(`${"".padEnd(44)} best  median of ${REPEATS} × ${RUNS} runs`);
measure("redirect and nothing else", bare, frame4(WILDCARD));
measure("IPv4, wildcard", steering.program, frame4(WILDCARD));
measure("IPv4, wildcard, one VLAN tag", steering.program, frame4(WILDCARD, "81000001"));
measure("IPv4, bound address in the port's entry", steering.program, frame4(BOUND));
measure("IPv4, bound address in the table", steering.program, frame4(BOUND_SECOND));
measure("IPv6, wildcard", steering.program, frame6(WILDCARD));
measure("IPv6, bound address in the port's entry", steering.program, frame6(BOUND));
measure("IPv4, no match: passed", steering.program, frame4(NOTHING));
measure("redirect alone, stamp taken back each run", bareWithReset, frame4(WILDCARD));
measure("IPv4, wildcard, stamp, taken back each run", stamping, frame4(STAMPED));
