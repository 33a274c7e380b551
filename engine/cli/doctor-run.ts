/** Running `lcore doctor`. */
import { SysError } from "af-xdp-bindings";
import manifest from "../../package.json" with { type: "json" };
import { inShell, shellLine } from "../doctor/change.ts";
import { diagnose, type TopicFinding, verdict } from "../doctor/diagnose.ts";
import type { Facts, Plan } from "../doctor/facts.ts";
import { gather } from "../doctor/gather.ts";
import { choice } from "../doctor/provider.ts";
import { getAffinity } from "../host/affinity.ts";
import type { DoctorOptions, PlanOptions } from "./doctor.ts";
import { report } from "./doctor-text.ts";
import { CliError } from "./failure.ts";

/** Version of the JSON below: raised when a field changes its meaning or goes. */
const SCHEMA = 1;
/** Exit status where there is nothing that an engine could run on. */
const CANNOT_RUN = 2;
/** As EngineOptions.frames. */
const FRAMES = 8192;

/** The exit status. */
export function runDoctor(options: DoctorOptions): number {
  const facts = examine(options, options.interface ?? null);
  const findings = diagnose(facts);
  process.stdout.write(options.json ? `${JSON.stringify(json(facts, findings))}\n` : report(facts, findings));
  return verdict(findings);
}

/** Facts for the engine that the options mean. Throws CliError for an interface or a namespace that cannot be had. */
export function examine(options: PlanOptions, name: string | null): Facts {
  const plan: Plan = {
    cpus: options.cpus ?? getAffinity(0).slice(-1),
    poll: options.poll,
    mode: options.mode,
    frames: FRAMES,
  };
  try {
    return gather({ interface: name, netns: options.netns ?? null, attach: options.try, plan });
  } catch (error) {
    if (error instanceof SysError) throw new CliError(error.message, CANNOT_RUN);
    throw error;
  }
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
    // What an engine with the provider 'auto' would run on.
    auto: choice(facts),
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
