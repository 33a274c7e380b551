/** `lcore tune --yes` killed with SIGKILL at any moment: what --undo then finds and puts back. */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { basename, dirname } from "node:path";
import { StateFile } from "../../../engine/doctor/tune-state.ts";
import { Sysfs } from "../../../engine/host/sysfs.ts";
import { type Host, makeHosts, requires } from "../../support/hosts.ts";
import { Cli, type Finished, lcore } from "./cli.ts";

setDefaultTimeout(60_000);

/** Findings whose changes are the interface's own: the machine's settings are not a test's to change. */
const OWN = ["queues", "irq-deferral", "rps"];
/** After what tune is killed, in the order in which it comes, and what is then to be seen. */
const MOMENTS: [when: string, after: string, isThere: (b: Host, sysfs: Sysfs) => boolean, changed: boolean][] = [
  ["its file is there", "save", (b) => existsSync(new StateFile(b.ns, b.name, b.ifindex).path), false],
  ["the queues are changed", "setChannels", (b) => b.ethtool.channels(b.name).rx === 2, true],
  ["interrupts are deferred no more", "napi_defer_hard_irqs", (b, sysfs) => deferral(b, sysfs) < 2, true],
  ["RPS is off", "queues/rx-0/rps_cpus", (b, sysfs) => sysfs.rpsCpus(b.name, 0).length === 0, true],
];

/** Settings of deferral that are on. */
const deferral = ({ name }: Host, sysfs: Sysfs): number =>
  [sysfs.napiDeferHardIrqs(name), sysfs.groFlushTimeoutNs(name)].filter((value) => value !== 0).length;

const skipped = requires("netns", "veth", "af_xdp", "bpf") !== "" || Bun.which("ethtool") === null;

describe.skipIf(skipped)("on veth", () => {
  test.each(MOMENTS)("killed when %s: --undo leaves every byte as before", async (_, after, isThere, changed) => {
    const hosts = makeHosts({ queues: 2 });
    try {
      const { b } = hosts;
      b.ethtool.setChannels(b.name, { rx: 1, tx: 1 });
      const sysfs = b.ns.run(() => Sysfs.open());
      sysfs.setNapiDeferHardIrqs(b.name, 2);
      sysfs.setGroFlushTimeoutNs(b.name, 200_000);
      sysfs.setSetting(b.name, "queues/rx-0/rps_cpus", "1");
      const look = (): string => state(b, sysfs);
      const before = look();
      const words = ["tune", "--interface", b.name, "--cpus", "0,1"];
      const run = { ns: b.ns };
      const undo = (): Promise<Finished> => lcore([...words.slice(0, 3), "--undo", "--yes"], run);

      const tune = new Cli([...words, "--only", OWN.join(), "--yes"], {
        ...run,
        preload: new URL("./stop-after.ts", import.meta.url).pathname,
        env: { STOP_AFTER: after },
      });
      while (!hasStopped(tune.child.pid)) await Bun.sleep(1);
      expect(isThere(b, sysfs)).toBe(true);
      tune.kill("SIGKILL");
      await tune.child.exited;
      expect(tune.child.signalCode).toBe("SIGKILL");
      if (changed) expect(look()).not.toBe(before);

      const undone = await undo();
      expect([undone.status, undone.stderr]).toEqual([0, ""]);
      expect(look()).toBe(before);
      const again = await undo();
      expect([again.status, again.stderr]).toEqual([0, ""]);
      expect(again.stdout).toStartWith(`Nothing to put back on ${b.name}`);
      expect(look()).toBe(before);
      const { path } = new StateFile(b.ns, b.name, b.ifindex);
      expect(readdirSync(dirname(path)).filter((name) => name.startsWith(`${basename(path)}.next`))).toEqual([]);
      expect(existsSync(path)).toBe(false);
      sysfs.close();
    } finally {
      hosts.close();
    }
  });
});

/** Whether a process stands still (T), as /proc/PID/stat has it behind the name in brackets. */
const hasStopped = (pid: number): boolean => readFileSync(`/proc/${pid}/stat`, "latin1").includes(") T ");

/** All that tune may change of a host, as the system's own programs print it. */
function state({ ns, name }: Host, sysfs: Sysfs): string {
  const asked = [
    ...["-k", "-l", "-g", "-x", "-c"].map((option) => ["ethtool", option, name]),
    ["sysctl", "-a", "--pattern", "^net\\."],
  ];
  const said = asked.map((words) => {
    const { stdout, stderr } = ns.run(() => Bun.spawnSync(words, { stderr: "pipe" }));
    return `${words.join(" ")}\n${stdout}${stderr}`;
  });
  const settings = [sysfs.napiDeferHardIrqs(name), sysfs.groFlushTimeoutNs(name), sysfs.rpsCpus(name, 0).join()];
  return [...said, ...settings].join("\n").replaceAll(/^.*(nf_conntrack_count|random).*\n/gm, "");
}
