/** Rules of the tree that no compiler checks. */
import { describe, expect, test } from "bun:test";
import { existsSync, readFileSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { COUNTERS } from "../sockets/counters.ts";

const ROOT = fileURLToPath(new URL("..", import.meta.url));
const BINDINGS = "queues/af-xdp-bindings";
/** Lines a file may have. */
const LINES_MAX = 660;

const files = [...new Bun.Glob("**/*.{ts,md}").scanSync({ cwd: ROOT })]
  .filter((path) => !path.includes("node_modules/"))
  .toSorted();
const sources = files.filter((path) => path.endsWith(".ts"));
const documents = files.filter((path) => path.endsWith(".md"));
const text = (path: string): string => readFileSync(join(ROOT, path), "utf8");

/** What a file imports: paths from the root where it names a file, else the module's name. */
function imports(path: string): string[] {
  const found = text(path).matchAll(
    /^(?:import|export|\}).* from "([^"]+)";$|^import "([^"]+)";$|\bimport\("([^"]+)"\)/gm,
  );
  const named = [...found].map(([, from, alone, dynamic]) => from ?? alone ?? dynamic);
  return named.map((name) => (name.startsWith(".") ? relative(ROOT, resolve(ROOT, dirname(path), name)) : name));
}

/** The layer a path belongs to. */
function layer(path: string): string {
  return path.startsWith(`${BINDINGS}/`) ? BINDINGS : path.split("/")[0];
}

/** Layers that each layer may import besides itself; a package's name is not a layer. */
const ALLOWED: Record<string, string[]> = {
  [BINDINGS]: [],
  queues: [BINDINGS],
  sockets: ["queues"],
  engine: ["sockets", "queues"],
  examples: ["engine", "sockets", "queues"],
  bench: ["engine", "sockets", "queues", "test"],
  test: ["engine", "sockets", "queues", "bench", BINDINGS],
};

test("there are files to look at", () => {
  expect(sources.length).toBeGreaterThan(100);
  expect(new Set(sources.map(layer))).toEqual(new Set(Object.keys(ALLOWED)));
});

describe("imports", () => {
  test("point one way: bench, test, examples > engine > sockets > queues > bindings", () => {
    const wrong = sources.flatMap((path) =>
      imports(path)
        .filter((name) => name.includes("/") && existsSync(join(ROOT, name)))
        .filter((name) => layer(name) !== layer(path) && !ALLOWED[layer(path)].includes(layer(name)))
        .map((name) => `${path} imports ${name}`),
    );
    expect(wrong).toEqual([]);
  });

  test("of the engine never lead to its command line", () => {
    const COMMAND_LINE = "engine/cli/";
    const wrong = sources
      .filter((path) => layer(path) === "engine" && !path.startsWith(COMMAND_LINE))
      .flatMap((path) =>
        imports(path)
          .filter((name) => name.startsWith(COMMAND_LINE))
          .map((name) => `${path} imports ${name}`),
      );
    expect(wrong).toEqual([]);
  });

  test("name files that are there", () => {
    const wrong = sources.flatMap((path) =>
      imports(path)
        .filter((name) => /^(\.|bench|engine|examples|queues|sockets|test)\//.test(name) || name.startsWith(".."))
        .filter((name) => !existsSync(join(ROOT, name)))
        .map((name) => `${path} imports ${name}`),
    );
    expect(wrong).toEqual([]);
  });

  test("bun:ffi is the bindings' alone", () => {
    const users = sources.filter((path) => imports(path).includes("bun:ffi"));
    expect(users.filter((path) => !path.startsWith(`${BINDINGS}/`))).toEqual([]);
    expect(users.length).toBeGreaterThan(0);
  });

  test("the bindings need nothing but the runtime, and themselves by name in the examples", () => {
    const outside = sources
      .filter((path) => layer(path) === BINDINGS)
      .flatMap((path) => imports(path).map((name) => ({ path, name })))
      .filter(({ name }) => !name.startsWith(`${BINDINGS}/`) && !/^(bun|node):|^bun$/.test(name))
      .filter(({ path, name }) => !(path.includes("/examples/") && name === "af-xdp-bindings"));
    expect(outside).toEqual([]);
  });
});

describe("text", () => {
  const lines = (pattern: RegExp, paths: readonly string[]): string[] =>
    paths.flatMap((path) =>
      text(path)
        .split("\n")
        .flatMap((line, i) => (pattern.test(line) ? [`${path}:${i + 1}: ${line.trim()}`] : [])),
    );
  const others = sources.filter((path) => path !== "test/tidy.test.ts");

  test("nothing is left to do, silenced or cast away", () => {
    expect(
      lines(/\b(TODO|FIXME|XXX|HACK)\b|@ts-(ignore|expect-error|nocheck)|\bas any(?=[;,)\]>]|$)|^\s*debugger;/, others),
    ).toEqual([]);
    // A lint rule may be set aside where the reason stands beside it.
    expect(lines(/biome-ignore(?! lint\/\w+\/\w+: \w)/, others)).toEqual([]);
    expect(lines(/\b(describe|test)\.(only|todo)\b|\bxit\b/, others)).toEqual([]);
  });

  test("no path of one machine, no address outside those set aside", () => {
    expect(lines(/["'` (](\/work|\/home|\/root|\/Users|\/mnt)\//, [...others, ...documents])).toEqual([]);
  });

  test("files are short", () => {
    const long = sources
      .map((path) => ({ path, count: text(path).split("\n").length }))
      .filter(({ count }) => count > LINES_MAX);
    expect(long).toEqual([]);
  });
});

describe("tests", () => {
  /** A program that its test starts in a namespace. */
  const CHILDREN = ["test/provider/serve.ts"];
  /** What an engine is given that keeps it off the machine's own interfaces. */
  const OFF_THE_MACHINE = /netns|memory|pcap|provider: "kernel"/;

  const apart = [...CHILDREN, "test/tidy.test.ts"];

  test.each(sources.filter((path) => path.startsWith("test/") && !apart.includes(path)))(
    "%s: an engine is told where, and never looks for the machine's default route",
    (path) => {
      const source = text(path);
      for (const { index } of source.matchAll(/Engine\.start\(/g))
        expect(source.slice(index, index + 300)).toMatch(OFF_THE_MACHINE);
    },
  );
});

describe("counters", () => {
  const code = sources
    .filter((path) => /^(engine|sockets|queues)\//.test(path) && path !== "sockets/counters.ts")
    .map(text)
    .join("\n");

  test.each(COUNTERS.map(([name, meaning]) => [name, meaning]))(
    "%s is counted somewhere, and says what",
    (name, meaning) => {
      // Those of sockets/tcp are counted as N, by Linux's names without what sets them apart here.
      const own = name.startsWith("Tcp") ? name.slice(3) : name;
      expect(new RegExp(`\\b(C\\.${name}|N\\.${own})\\b`).test(code)).toBe(true);
      expect(meaning.length).toBeGreaterThan(10);
    },
  );

  test("each is there once", () => {
    expect(new Set(COUNTERS.map(([name]) => name)).size).toBe(COUNTERS.length);
  });
});

describe("documents", () => {
  /** The anchor a heading has on GitHub. */
  const anchor = (heading: string): string =>
    heading
      .replace(/[`*_]|\[([^\]]*)\]\([^)]*\)/g, "$1")
      .trim()
      .toLowerCase()
      .replace(/[^\p{L}\p{N} _-]/gu, "")
      .replaceAll(" ", "-");
  const anchors = (path: string): string[] =>
    [...text(path).matchAll(/^#+ (.+)$/gm)].map(([, heading]) => anchor(heading));

  test.each(documents)("%s: links lead somewhere", (path) => {
    const prose = text(path).replace(/```.*?```/gs, "");
    const broken: string[] = [];
    for (const [, target] of prose.matchAll(/\]\(([^)\s]+)\)/g)) {
      if (/^[a-z]+:/.test(target)) continue;
      const [file, fragment] = target.split("#");
      const full = file === "" ? path : relative(ROOT, resolve(ROOT, dirname(path), file));
      if (!existsSync(join(ROOT, full))) broken.push(target);
      else if (fragment && full.endsWith(".md") && !anchors(full).includes(fragment)) broken.push(target);
    }
    expect(broken).toEqual([]);
  });
});
