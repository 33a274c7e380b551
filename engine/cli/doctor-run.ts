/** Running `lcore doctor`. */
import manifest from "../../package.json" with { type: "json" };
import { inShell, shellLine } from "../doctor/change.ts";
import { diagnose, type TopicFinding, verdict } from "../doctor/diagnose.ts";
import type { Facts, Plan } from "../doctor/facts.ts";
import { gather } from "../doctor/gather.ts";
import { getAffinity } from "../host/affinity.ts";
import type { DoctorOptions, PlanOptions } from "./doctor.ts";
import { report } from "./doctor-text.ts";

/** Version of the JSON below: raised when a field changes its meaning or goes. */
const SCHEMA = 1;
/** As EngineOptions.frames. */
const FRAMES = 8192;

/** The exit status. */
export function runDoctor(options: DoctorOptions): number {
  const facts = examine(options, options.interface ?? null);
  const findings = diagnose(facts);
  process.stdout.write(options.json ? `${JSON.stringify(json(facts, findings))}\n` : report(facts, findings));
  return verdict(findings);
}

/** Facts for the engine that the options mean. Throws SysError. */
export function examine(options: PlanOptions, name: string | null): Facts {
  const plan: Plan = {
    cpus: options.cpus ?? getAffinity(0).slice(-1),
    poll: options.poll,
    mode: options.mode,
    frames: FRAMES,
  };
  return gather({ interface: name, netns: options.netns ?? null, attach: options.try, plan });
}

/** Lines that mend a finding, as they are typed in the caller's shell by root. */
export function commandsOf({ changes, byHand }: TopicFinding, { where }: Facts): string[] {
  return [...changes.map(shellLine), ...byHand].map((line) => inShell(line, where));
}

function json(facts: Facts, findings: readonly TopicFinding[]): object {
  const { host, plan } = facts;
  return {
    schema: SCHEMA,
    lcore: manifest.version,
    time: new Date().toISOString(),
    kernel: host.kernel,
    netns: facts.where.netns,
    interface: facts.interface?.name ?? null,
    plan,
    verdict: verdict(findings),
    findings: findings.map((finding) => ({
      id: finding.id,
      topic: finding.topic,
      level: finding.level,
      found: finding.found,
      cost: finding.cost,
      commands: commandsOf(finding, facts),
      // Whether `lcore tune` runs them.
      tunable: finding.changes.length > 0,
      noCommand: finding.noCommand,
    })),
  };
}
