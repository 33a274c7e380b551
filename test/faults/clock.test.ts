/** The machine's clock is set: stamps follow within a second, and nothing else notices. */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { fileURLToPath } from "node:url";
import { CLOCK_REALTIME, namespaceOffset, Realtime } from "../../engine/realtime.ts";
import { requires } from "../support/hosts.ts";
import { KernelUdp } from "../support/kernel-udp.ts";
import { PORT, scene } from "./serving.ts";

setDefaultTimeout(60_000);

/** Clocks that are made up, in seconds. */
class Clocks {
  realtime = 1_000_000;
  monotonic = 5000;
  readonly read = (id: number, clock: Uint32Array): void => {
    const time = id === CLOCK_REALTIME ? this.realtime : this.monotonic;
    const seconds = Math.floor(time);
    clock[0] = seconds % 2 ** 32;
    clock[1] = Math.floor(seconds / 2 ** 32);
    clock[2] = Math.round((time - seconds) * 1e9);
  };
}

const NONE = { seconds: 0, nanoseconds: 0 };

test.each([3600.25, -3600.25, -900_000])("a step of %d s: stamps are right again after a second", (step) => {
  const clocks = new Clocks();
  const realtime = new Realtime(clocks.read, NONE);
  const difference = (): number => realtime.seconds + realtime.nanoseconds / 1e9;
  expect([realtime.update(0), difference()]).toEqual([true, 995_000]);
  clocks.realtime += step;
  expect([realtime.update(999), difference()]).toEqual([false, 995_000]);
  clocks.realtime += 1;
  clocks.monotonic += 1;
  expect([realtime.update(1000), difference()]).toEqual([true, 995_000 + step]);
});

test("what a time namespace adds is taken off", () => {
  const text = "monotonic          100         200000000\nboottime            -7         900000000\n";
  expect(namespaceOffset(text)).toEqual({ seconds: 100, nanoseconds: 200_000_000 });
  expect(namespaceOffset("monotonic           -3         500000000\n")).toEqual({
    seconds: -3,
    nanoseconds: 500_000_000,
  });
  expect(namespaceOffset("")).toEqual(NONE);
  const clocks = new Clocks();
  const realtime = new Realtime(clocks.read, namespaceOffset(text));
  realtime.update(0);
  // The program's clock is 4899.8.
  expect(realtime.seconds + realtime.nanoseconds / 1e9).toBeCloseTo(995_100.2, 6);
});

describe.skipIf(requires("veth", "af_xdp", "bpf") !== "")("with clocks of its own", () => {
  const { cleanUp, hosts } = scene();

  test.each(["100000", "-3"])(
    "a monotonic clock %s s away: it starts, answers, sleeps, stamps and stops",
    async (shift) => {
      const { a, b } = hosts();
      const child = Bun.spawn(
        [
          ...["unshare", "--time", `--monotonic=${shift}`, "--fork", "--kill-child"],
          ...[
            process.execPath,
            fileURLToPath(new URL("./stamps.ts", import.meta.url)),
            b.name,
            b.ns.path,
            String(PORT),
          ],
        ],
        { stdout: "pipe", stdin: "pipe" },
      );
      cleanUp.push(() => {
        child.kill();
        return child.exited;
      });
      const lines = linesOf(child.stdout);
      expect(await lines.next()).toMatchObject({ value: "ready" });
      const peer = new KernelUdp(a.ns, {});
      cleanUp.push(() => peer.close());
      for (const pauseMs of [0, 1500]) {
        await Bun.sleep(pauseMs);
        const before = Date.now() / 1000;
        const { text } = await peer.ask("when", b.ipv4Text, PORT);
        // Between the question and the answer, and the millisecond that Date.now() rounds to.
        expect(Number(text)).toBeWithin(before - 0.002, Date.now() / 1000 + 0.002);
      }
      child.stdin.write("stop\n");
      child.stdin.flush();
      expect(await child.exited).toBe(0);
    },
  );
});

async function* linesOf(stream: ReadableStream<Uint8Array>): AsyncGenerator<string> {
  const decoder = new TextDecoder();
  let text = "";
  for await (const chunk of stream) {
    text += decoder.decode(chunk, { stream: true });
    const lines = text.split("\n");
    text = lines.pop() ?? "";
    yield* lines;
  }
}
