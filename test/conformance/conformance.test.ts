/** The runner itself, and the table that it writes: every scenario on every side is `npm run conformance -- --long`. */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { fileURLToPath } from "node:url";
import { ERRNO } from "af-xdp-bindings";
import { AF_INET6, SOCK_DGRAM } from "../../sockets/calls/constants.ts";
import type { SocketCalls } from "../../sockets/calls/socket-calls.ts";
import { SO_ERROR, SOL_SOCKET } from "../../sockets/options.ts";
import { at, NOBODY, text } from "../calls/inet/tools.ts";
import { requires } from "../support/hosts.ts";
import { differences } from "./compare.ts";
import { writtenRows } from "./document.ts";
import type { Explanation } from "./explained.ts";
import { PAGE } from "./page.ts";
import { STREAMS, STREAMS_MADE } from "./scenarios.ts";
import { memorySide } from "./sides.ts";

setDefaultTimeout(240_000);

/** Of the scenarios of TCP one in so many is played here; the rest by hand. */
const SPARSE = "8";
const MAIN = fileURLToPath(new URL("./main.ts", import.meta.url));

function run(...flags: string[]): { code: number; lines: string[] } {
  const { exitCode, stdout, stderr } = Bun.spawnSync([process.execPath, MAIN, ...flags]);
  return { code: exitCode, lines: `${stdout}${stderr}`.trim().split("\n") };
}

describe("npm run conformance", () => {
  test.skipIf(requires("veth", "af_xdp", "bpf") !== "")("no difference without a reason", () => {
    const { code, lines } = run("--sparse", SPARSE);
    const last = /^(\d+) scenarios, (\d+) lines compared, \d+ differences explained, (\d+) unexplained$/.exec(
      lines.at(-1) ?? "",
    );
    if (last?.[3] !== "0") console.error(lines.slice(-60).join("\n"));
    expect(last?.[3]).toBe("0");
    expect(Number(last?.[1])).toBeGreaterThan(10_000);
    expect(code).toBe(0);
  });

  test("what is asked for wrongly: one line, and 2", () => {
    expect(run("--only", "no such scenario")).toEqual({
      code: 2,
      lines: ["conformance: no scenario matches /no such scenario/: try --only ."],
    });
    for (const flags of [["--only", "("], ["--side", "elsewhere"], ["--nothing"], ["--write"]]) {
      const { code, lines } = run(...flags);
      expect([code, lines.length]).toEqual([2, 1]);
    }
  });
});

describe("between two scenarios on a wire in memory", () => {
  /** So many errors an IPv6 host is sent at once: see sockets/host/rate-limit.ts. */
  const ERRORS = 6;

  test("what was sent to nobody is reported, in both directions", async () => {
    const side = await memorySide();
    const { calls, peer, places, settle } = side;
    if (peer === null || settle === undefined) throw new Error("a side of one host");
    const ends: [SocketCalls, Uint8Array][] = [
      [calls, places.peer6],
      [peer, at(places.own6, NOBODY)],
    ];
    for (let i = 0; i < ERRORS; i++) {
      const fds = ends.map(([end, nobody]) => {
        const fd = end.socket(AF_INET6, SOCK_DGRAM, 0);
        expect(end.connect(fd, nobody)).toBe(0);
        expect(end.write(fd, text("x"))).toBe(1);
        return fd;
      });
      settle();
      for (const [n, [end]] of ends.entries()) {
        const error = new Int32Array(1);
        end.getsockopt(fds[n], SOL_SOCKET, SO_ERROR, new Uint8Array(error.buffer));
        expect(error[0]).toBe(ERRNO.ECONNREFUSED);
        end.close(fds[n]);
      }
    }
    await side.close();
  });
});

test("each scenario of TCP has a name of its own, and they are many", () => {
  const names = [...STREAMS, ...STREAMS_MADE].map(({ name }) => name);
  expect(new Set(names).size).toBe(names.length);
  expect(names.length).toBeGreaterThan(4500);
});

describe("comparing", () => {
  const explained: Explanation = { sides: ["s"], scenario: /./, kernel: /= 1$/, ours: /= 2$/, reason: "why" };

  test("a line that differs is found, with its reason; after a call that is another one the rest is not told apart", () => {
    const found = differences(
      "s",
      "x",
      ["a read(as1) = 1", "a close(as1) = 0"],
      ["a read(as1) = 2", "a poll(0) = 0", "b"],
      [explained],
    );
    expect(found.map(({ kernel, ours, because }) => [kernel, ours, because?.reason])).toEqual([
      ["a read(as1) = 1", "a read(as1) = 2", "why"],
      ["a close(as1) = 0", "a poll(0) = 0", undefined],
    ]);
    expect(differences("other", "x", ["a = 1"], ["a = 2"], [explained])[0].because).toBeNull();
    expect(differences("s", "x", ["a", "b"], ["a"], [])).toHaveLength(1);
    expect(differences("s", "x", ["a", "b"], ["a", "b"], [])).toEqual([]);
  });
});

describe("docs/socket7.md", () => {
  test("has a row for each item of the page, and each has an answer", () => {
    const rows = writtenRows();
    expect([...rows.keys()]).toEqual(PAGE.flatMap(({ items }) => items.map(({ item }) => item)));
    for (const verdict of rows.values()) expect(verdict).toMatch(/^(works|kernel only: .+|differs because .+)/);
  });
});
