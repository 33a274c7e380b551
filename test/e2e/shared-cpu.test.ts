/** A program and its lcore on one CPU: wakeups are put off in a burst, and nothing waits for ever. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { fileURLToPath } from "node:url";
import { getAffinity, setAffinity } from "../../engine/host/affinity.ts";
import { makeHosts, requires, type VethPair } from "../support/hosts.ts";
import { KernelUdp } from "../support/kernel-udp.ts";

// A machine whose CPUs others use as well may take long over what is done in milliseconds.
setDefaultTimeout(60_000);

const PORT = 9000;
const PROGRAM = fileURLToPath(new URL("../../bench/peers/dropin-bun.ts", import.meta.url));
/** More than a burst of the lcore, fewer than the frames lent to a thread. */
const BURST = 200;
const ECHO_MS = 50;

describe.skipIf(requires("veth", "af_xdp", "bpf") !== "")("one CPU", () => {
  let hosts: VethPair;
  let program: Bun.Subprocess;
  let client: KernelUdp;

  beforeAll(async () => {
    hosts = makeHosts();
    const { a, b } = hosts;
    const cpus = getAffinity(0);
    const cpu = cpus[cpus.length - 1];
    setAffinity(0, [cpu]);
    try {
      const env = { ...process.env, LCORE_INTERFACE: b.name, LCORE_CPUS: String(cpu) };
      program = b.ns.run(() => Bun.spawn([process.execPath, PROGRAM, String(PORT)], { env }));
    } finally {
      setAffinity(0, cpus);
    }
    client = new KernelUdp(a.ns, { address: a.ipv4Text });
    while (!(await hears())) {
      if (program.exitCode !== null) throw new Error("the program has ended");
      client.send("?", b.ipv4Text, PORT);
    }
    // Those of the questions that were put before it served.
    while (await hears());
  });

  afterAll(async () => {
    program?.kill();
    await program?.exited;
    client?.close();
    hosts?.close();
  });

  /** Whether an echo comes soon. */
  const hears = (): Promise<boolean> =>
    client.receive(ECHO_MS).then(
      () => true,
      () => false,
    );

  test.each([1, 3, 5, 64, BURST])("%d at once, and one after them", async (count) => {
    for (let round = 0; round < 10; round++) {
      const sent = Array.from({ length: count }, (_, i) => `${count} ${round} ${i}`);
      for (const text of sent) expect(client.send(text, hosts.b.ipv4Text, PORT)).toBe(text.length);
      const got: string[] = [];
      while (got.length < count) got.push((await client.receive()).text);
      expect(got).toEqual(sent);
      expect((await client.ask("one more", hosts.b.ipv4Text, PORT)).text).toBe("one more");
    }
  });
});
