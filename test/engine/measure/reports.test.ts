import { afterAll, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { html } from "../../../engine/measure/report/html.ts";
import { junit } from "../../../engine/measure/report/junit.ts";
import { makeReport } from "../../../engine/measure/report/make.ts";
import { markdown } from "../../../engine/measure/report/markdown.ts";
import { duration, sentence, signedPercent, value } from "../../../engine/measure/report/text.ts";
import { CIRCUMSTANCES, fakeCompared } from "./fake-comparison.ts";

const regressed = makeReport(fakeCompared(1.12), CIRCUMSTANCES);
const same = makeReport(fakeCompared(1), CIRCUMSTANCES);
const open = makeReport(fakeCompared(1.03, 7), CIRCUMSTANCES);

describe("words", () => {
  test("numbers", () => {
    expect(signedPercent(0.1234)).toBe("+12.3 %");
    expect(signedPercent(-0.004)).toBe("−0.4 %");
    expect(signedPercent(-0.0004)).toBe("+0.0 %");
    expect(value("p50", 450)).toBe("0.45 µs");
    expect(value("throughput", 1.98e6)).toBe("1.98 M/s");
    expect(duration(100)).toBe("2 min");
  });

  test("each verdict is one sentence", () => {
    expect(regressed.outcome).toBe("regressed");
    expect(regressed.sentence).toMatch(
      /^Regressed: head is worse in p50, \+1\d\.\d % \(.*3 % matters\).*launches in \d+ s\.$/,
    );
    expect(same.sentence).toMatch(/^Pass: head is worse by what matters in none of p50/);
    expect(open.sentence).toMatch(/^Inconclusive: .* more would probably settle it\.$/);
    for (const { sentence } of [regressed, same, open]) expect(sentence).not.toMatch(/\n|undefined|NaN|Infinity/);
  });

  test("a change at the minimum itself is not promised to be settled", () => {
    const metrics = open.metrics.map((metric) => ({ ...metric, moreSeconds: null }));
    expect(sentence({ ...open, metrics })).toMatch(/no sensible time would settle it/);
  });
});

test("JSON says everything, and comes back as it was", () => {
  expect(JSON.parse(JSON.stringify(regressed))).toEqual(regressed);
});

test("Markdown: a table row a metric, and nothing that breaks it", () => {
  const lines = markdown(regressed).split("\n");
  expect(lines.filter((line) => line.startsWith("| p")).length).toBe(3);
  expect(
    new Set(lines.filter((line) => line.startsWith("|")).map((line) => line.match(/(?<!\\)\|/g)?.length)).size,
  ).toBe(1);
});

describe("JUnit XML", () => {
  const python = (
    xml: string,
  ): { tests: string; failures: string; errors: string; skipped: string; kinds: string[] } => {
    const script =
      "import sys,json,xml.etree.ElementTree as t; r=t.parse(sys.stdin).getroot(); " +
      "print(json.dumps({**r.attrib,'kinds':[c.tag for k in r.iter('testcase') for c in k]}))";
    const { stdout } = Bun.spawnSync(["python3", "-c", script], { stdin: Buffer.from(xml) });
    return JSON.parse(stdout.toString());
  };

  test("a regression is a failure, what it left open is skipped", () => {
    const found = python(junit(regressed));
    expect(found).toMatchObject({ tests: "4", errors: "0" });
    expect(Number(found.failures)).toBe(regressed.metrics.filter((m) => m.outcome === "regressed").length);
    expect(found.kinds.length).toBe(4);
  });

  test("what cannot be told is an error", () => {
    expect(Number(python(junit(open)).errors)).toBeGreaterThan(0);
    expect(python(junit(same)).errors).toBe("0");
  });
});

describe("HTML", () => {
  const directory = mkdtempSync(join(tmpdir(), "lcore-report-"));
  afterAll(() => rmSync(directory, { recursive: true, force: true }));

  test("a real browser draws every chart, and nothing is asked for from outside", async () => {
    const text = await html(regressed);
    expect(text).not.toMatch(/(src|href)=|url\(|@import/);
    expect(text).toContain("default-src 'none'");
    expect(text).toContain("as it was &lt;before&gt;");
    await Bun.write(join(directory, "report.html"), text);
    const quiet =
      "disable-gpu disable-quic no-first-run disable-background-networking disable-component-update disable-sync";
    const flags = `headless no-sandbox ${quiet} enable-logging=stderr dump-dom`.split(" ").map((flag) => `--${flag}`);
    const command = [
      "chromium",
      ...flags,
      `--user-data-dir=${join(directory, "profile")}`,
      `file://${join(directory, "report.html")}`,
    ];
    const { stdout, stderr } = Bun.spawnSync(command);
    const page = stdout.toString();
    // Percentiles, trials, changes, time.
    expect(page).toMatch(/data-drawn="4"/);
    expect(page.match(/<canvas/g)?.length).toBe(4);
    expect(stderr.toString()).not.toMatch(/CONSOLE.*(Error|Refused)/);
  });
});
