/** Extended programs, here and in the kernel (BPF_PROG_TEST_RUN): the same results, the same left in maps. */
import { afterAll, describe, expect, test } from "bun:test";
import { createMap, disassemble, Program, type ProgramLoadError, sys } from "af-xdp-bindings";
import { Random } from "../../../queues/random.ts";
import { compileVerified, source } from "../../../sockets/bpf/extended/compile.ts";
import { META, META_WORDS, SKB } from "../../../sockets/bpf/extended/context.ts";
import { verifyExtended } from "../../../sockets/bpf/extended/verifier.ts";
import { createSharedMap } from "../../../sockets/bpf/maps/index.ts";
import { ARRAY_ENTRIES, Generator, VALUE_BYTES } from "./generate.ts";
import { fetchesFromStack, kernelRun, withLoadedFetches } from "./kernel-run.ts";

const PROGRAMS = Number(process.env.LCORE_BPF_PROGRAMS ?? 1000);
const PACKETS = 20;
const SEED = Number(process.env.LCORE_BPF_SEED ?? 1);
const ETH_HEADER = 14;
const PACKET_MAX = 80;
/** More than there are keys: when the kernel says that a hash is full depends on which CPU's list a free entry is in. */
const HASH_ENTRIES = 16;

const theirs = {
  array: createMap({ type: "BPF_MAP_TYPE_ARRAY", keySize: 4, valueSize: VALUE_BYTES, maxEntries: ARRAY_ENTRIES }),
  hash: createMap({ type: "BPF_MAP_TYPE_HASH", keySize: 4, valueSize: VALUE_BYTES, maxEntries: HASH_ENTRIES }),
};
const ours = {
  array: createSharedMap({ type: "array", valueSize: VALUE_BYTES, maxEntries: ARRAY_ENTRIES, fd: theirs.array.fd }),
  hash: createSharedMap({ type: "hash", valueSize: VALUE_BYTES, maxEntries: HASH_ENTRIES, fd: theirs.hash.fd }),
};
afterAll(() => {
  theirs.array.close();
  theirs.hash.close();
});

// Over a buffer of its own: a small array without one moves once its buffer is asked for.
const memory = new Uint8Array(new ArrayBuffer(256));
const address = sys.addressOf(memory);

function resetMaps(random: Random): void {
  for (let index = 0; index < ARRAY_ENTRIES + 2; index++) {
    const key = new Uint8Array(Uint32Array.of(index).buffer);
    const value = new Uint8Array(VALUE_BYTES).map(() => random.below(256));
    theirs.hash.delete(key);
    ours.hash.delete(index);
    if (index < ARRAY_ENTRIES) {
      theirs.array.update(key, value);
      ours.array.update(index, value);
    }
    if (random.below(2) && index < ARRAY_ENTRIES) {
      theirs.hash.update(key, value);
      ours.hash.update(index, value);
    }
  }
}

function compareMaps(): void {
  for (let index = 0; index < ARRAY_ENTRIES + 2; index++) {
    const key = new Uint8Array(Uint32Array.of(index).buffer);
    if (index < ARRAY_ENTRIES) expect(ours.array.lookup(index)).toEqual(theirs.array.lookup(key));
    expect(ours.hash.lookup(index)).toEqual(theirs.hash.lookup(key));
  }
}

interface Comparison {
  readonly compared: number;
  /** Programs that ours refused, and why. */
  readonly refused: string[];
  /** Programs of which the kernel dropped a live branch: see fetchesFromStack(). */
  readonly misled: number;
}

function compare(kind: "socket_filter" | "sched_cls", seed: number): Comparison {
  const random = new Random(seed);
  const generator = new Generator(random, theirs, kind);
  const type = kind === "sched_cls" ? "BPF_PROG_TYPE_SCHED_CLS" : "BPF_PROG_TYPE_SOCKET_FILTER";
  const context = new Int32Array(META_WORDS);
  const header = kind === "sched_cls" ? 0 : ETH_HEADER;
  const refused: string[] = [];
  let compared = 0;
  let misled = 0;
  for (let p = 0; p < PROGRAMS; p++) {
    const code = generator.program(4 + random.below(p % 10 === 0 ? 60 : 20));
    let verified: ReturnType<typeof verifyExtended>;
    try {
      verified = verifyExtended(code, { type: kind, maps: [ours.array, ours.hash] });
    } catch (error) {
      refused.push(`${(error as Error).message}\n${disassemble(code)}`);
      continue;
    }
    let program: Program;
    try {
      program = Program.load(code, { type });
    } catch (error) {
      throw new Error(
        `the kernel refuses what passes here:\n${(error as ProgramLoadError).log?.slice(-3000)}\n${disassemble(code)}`,
      );
    }
    const run = compileVerified(verified);
    resetMaps(random);
    for (let i = 0; i < PACKETS; i++) {
      const length = ETH_HEADER + 1 + random.below(PACKET_MAX - ETH_HEADER);
      for (let at = 0; at < length; at++) memory[at] = random.below(256);
      memory[12] = memory[13] = 0x88;
      context.fill(0);
      context[SKB.protocol >> 2] = 0x8888;
      context[META.networkOffset] = ETH_HEADER - header;
      context[META.linkOffset] = -header;
      const there = kernelRun(program, address, length);
      const here = run(memory, header, length - header, context);
      compared++;
      if (there !== here && fetchesFromStack(code)) {
        // Not ours: said in a way that the kernel's verifier keeps track of, it gives there what it gives here.
        const said = Program.load(withLoadedFetches(code), { type });
        resetMaps(new Random(p));
        expect(kernelRun(said, address, length)).toBe(run(memory, header, length - header, context));
        said.close();
        misled++;
        break;
      }
      if (there !== here) {
        throw new Error(
          `program ${p}: kernel ${there}, here ${here}, of ${memory.subarray(0, length).toHex()}\n${disassemble(code)}\n${source(verified)}`,
        );
      }
    }
    compareMaps();
    program.close();
  }
  return { compared, refused, misled };
}

describe("extended programs give what they give in the kernel", () => {
  test.each(["socket_filter", "sched_cls"] as const)(
    "%s",
    (kind) => {
      const { compared, refused, misled } = compare(kind, SEED);
      if (process.env.LCORE_BPF_PROGRAMS)
        console.log(
          `${kind}: ${compared} compared, ${refused.length} programs refused, ${misled} misled by the kernel's verifier`,
        );
      if (refused.length > 0) console.log(refused[0]);
      expect(refused).toEqual([]);
      expect(misled).toBeLessThanOrEqual(PROGRAMS / 5000);
      expect(compared).toBeGreaterThanOrEqual((PROGRAMS - misled) * PACKETS);
    },
    600_000,
  );
});
