/** The findings of `lcore doctor` for people: what is fine in a line a topic, the rest one by one, then the commands. */
import { type TopicFinding, verdict } from "../doctor/diagnose.ts";
import type { Facts } from "../doctor/facts.ts";
import { count, type Level } from "../doctor/finding.ts";
import { dealt } from "../doctor/queues.ts";
import { commandsOf } from "./doctor-run.ts";
import { colour, table, wrap } from "./output.ts";

const PAINT: Record<Level, (text: string) => string> = {
  ok: colour.green,
  info: colour.cyan,
  warn: colour.yellow,
  fail: colour.red,
};

export function report(facts: Facts, findings: readonly TopicFinding[]): string {
  return [heading(facts), rows(findings), commands(facts, findings), summary(facts, findings)]
    .filter((part) => part !== "")
    .join("\n");
}

function heading(facts: Facts): string {
  const { host, plan, interface: dev } = facts;
  const what = dev === null ? "host" : dev.name;
  const lcores = dev === null ? `CPU ${plan.cpus.join()}` : dealt(facts);
  const title = colour.bold(`lcore doctor: ${what}`);
  return `${wrap(`${title}  Linux ${host.kernel}, lcores on ${lcores}, poll ${plan.poll}`)}\n`;
}

function rows(findings: readonly TopicFinding[]): string {
  const lines: string[][] = [];
  for (const topic of new Set(findings.map((finding) => finding.topic))) {
    const here = findings.filter((finding) => finding.topic === topic);
    const fine = here.filter(({ level }) => level === "ok").map(({ found }) => found);
    if (fine.length > 0) lines.push([PAINT.ok("ok"), topic, colour.dim(fine.join("; "))]);
    for (const finding of here.filter(({ level }) => level !== "ok")) lines.push(row(finding));
  }
  const left = { align: "left" } as const;
  return `${table(
    [
      { head: "", ...left },
      { head: "finding", ...left },
      { head: "what was found", ...left, fill: true },
    ],
    lines,
  )}\n`;
}

function row({ id, level, found, cost, noCommand }: TopicFinding): string[] {
  const text = [found, cost === "" ? "" : colour.dim(cost), noCommand === "" ? "" : `→ ${noCommand}`];
  return [PAINT[level](level), id, text.filter((part) => part !== "").join("\n")];
}

/** Whole lines, whatever the terminal's width: they are there to be copied. */
function commands(facts: Facts, findings: readonly TopicFinding[]): string {
  const lines = findings.flatMap((finding) => {
    const commands = commandsOf(finding, facts);
    return commands.length === 0 ? [] : [colour.dim(`# ${finding.id}`), ...commands];
  });
  return lines.length === 0 ? "" : `${colour.bold("What mends it, as root:")}\n${lines.join("\n")}\n`;
}

function summary(facts: Facts, findings: readonly TopicFinding[]): string {
  const failed = findings.filter(({ level }) => level === "fail").length;
  const warned = findings.filter(({ level }) => level === "warn").length;
  const status = verdict(findings);
  const words = [
    failed > 0 ? PAINT.fail(count(failed, "failure")) : "",
    warned > 0 ? PAINT.warn(count(warned, "warning")) : "",
  ];
  const counts = words.filter((word) => word !== "").join(" and ");
  if (status === 0) return `${PAINT.ok("All fine.")}\n`;
  const tunable = findings.filter(({ changes }) => changes.length > 0);
  const dev = facts.interface?.name;
  const hint =
    tunable.length > 0 && dev !== undefined
      ? ` \`lcore tune --interface ${dev}\` mends ${tunable.map(({ id }) => id).join(", ")}.`
      : "";
  return `${wrap(`${counts}: the engine ${status === 2 ? "cannot run" : "runs"} over AF_XDP like this.${hint}`)}\n`;
}
