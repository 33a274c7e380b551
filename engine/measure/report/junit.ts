/**
 * A comparison as JUnit XML, in the dialect that Jenkins, GitLab and GitHub's report actions read: a test case a metric. A
 * regression is a failure; what could not be settled is an error, because a gate that is silent when it cannot tell is none.
 */
import type { Outcome } from "../verdict/verdict.ts";
import type { ComparisonReport, MetricRecord } from "./data.ts";
import { interval, percent, probability, signedPercent } from "./text.ts";

/** Characters that XML 1.0 has no place for. */
const FORBIDDEN = /[^\t\n\r\u0020-\uD7FF\uE000-\uFFFD\u{10000}-\u{10FFFF}]/gu;
const escaped = (text: string): string => Bun.escapeHTML(text.replace(FORBIDDEN, "�"));

const finding = (m: MetricRecord): string =>
  `${m.metric} ${signedPercent(m.change)}, 95 % interval ${interval(m)}, p ${probability(m.p)}; ${percent(m.minimum)} matters`;

function testCase(metric: MetricRecord, overall: Outcome, seconds: number): string {
  const text = escaped(finding(metric));
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

export function junit(report: ComparisonReport): string {
  const { metrics, seconds, outcome } = report;
  const number = (wanted: Outcome): number => metrics.filter((metric) => metric.outcome === wanted).length;
  const open = number("inconclusive");
  const [errors, skipped] = outcome === "inconclusive" ? [open, 0] : [0, open];
  const counts = `tests="${metrics.length}" failures="${number("regressed")}" errors="${errors}" skipped="${skipped}" time="${seconds.toFixed(3)}"`;
  return [
    '<?xml version="1.0" encoding="UTF-8"?>',
    `<testsuites name="lcore regress" ${counts}>`,
    `  <testsuite name="${escaped(`${report.base.label} against ${report.head.label}`)}" ${counts}>`,
    `    <properties><property name="verdict" value="${escaped(report.sentence)}"/></properties>`,
    ...metrics.map((metric) => testCase(metric, outcome, seconds / metrics.length)),
    "  </testsuite>",
    "</testsuites>",
    "",
  ].join("\n");
}
