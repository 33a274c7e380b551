/**
 * A comparison as JUnit XML, in the dialect that Jenkins, GitLab and GitHub's report actions read: a test case a metric. A
 * regression is a failure; what could not be settled is an error, because a gate that is silent when it cannot tell is none.
 */
import type { Outcome } from "../verdict/verdict.ts";
import type { ComparisonReport, MetricRecord, StoredMetricRecord, StoredReport } from "./data.ts";
import { interval, percent, probability, signedPercent } from "./text.ts";

/** Characters that XML 1.0 has no place for. */
const FORBIDDEN = /[^\t\n\r\u0020-\uD7FF\uE000-\uFFFD\u{10000}-\u{10FFFF}]/gu;
const escaped = (text: string): string => Bun.escapeHTML(text.replace(FORBIDDEN, "�"));

const finding = (m: MetricRecord): string =>
  `${m.metric} ${signedPercent(m.change)}, 95 % interval ${interval(m)}, p ${probability(m.p)}; ${percent(m.minimum)} matters`;

const storedFinding = (m: StoredMetricRecord): string =>
  `${m.metric} ${signedPercent(m.change)}, told from ${percent(m.tells)}; ${percent(m.minimum)} matters`;

/** A metric and what was found of it. */
interface Case {
  readonly metric: string;
  readonly outcome: Outcome;
  readonly found: string;
}

function testCase(metric: Case, overall: Outcome, seconds: number): string {
  const text = escaped(metric.found);
  const result =
    metric.outcome === "regressed"
      ? `<failure message="${text}" type="regressed"/>`
      : metric.outcome !== "inconclusive"
        ? `<system-out>${text}</system-out>`
        : overall === "inconclusive"
          ? `<error message="${text}" type="inconclusive"/>`
          : `<skipped message="not settled when another metric ended the comparison: ${text}"/>`;
  const name = escaped(metric.metric);
  return `    <testcase classname="lcore.regress" name="${name}" time="${seconds.toFixed(3)}">${result}</testcase>`;
}

export const junit = (report: ComparisonReport): string =>
  document(
    report,
    `${report.base.label} against ${report.head.label}`,
    report.metrics.map((m) => ({ ...m, found: finding(m) })),
  );

export const storedJunit = (report: StoredReport): string =>
  document(
    report,
    `${report.head.label} beside stored runs`,
    report.metrics.map((m) => ({ ...m, found: storedFinding(m) })),
  );

function document(
  { outcome, seconds, sentence }: Pick<StoredReport, "outcome" | "seconds" | "sentence">,
  name: string,
  cases: readonly Case[],
): string {
  const number = (wanted: Outcome): number => cases.filter((one) => one.outcome === wanted).length;
  const open = number("inconclusive");
  const [errors, skipped] = outcome === "inconclusive" ? [open, 0] : [0, open];
  const counts = `tests="${cases.length}" failures="${number("regressed")}" errors="${errors}" skipped="${skipped}" time="${seconds.toFixed(3)}"`;
  return [
    '<?xml version="1.0" encoding="UTF-8"?>',
    `<testsuites name="lcore regress" ${counts}>`,
    `  <testsuite name="${escaped(name)}" ${counts}>`,
    `    <properties><property name="verdict" value="${escaped(sentence)}"/></properties>`,
    ...cases.map((one) => testCase(one, outcome, seconds / cases.length)),
    "  </testsuite>",
    "</testsuites>",
    "",
  ].join("\n");
}
