/** The examples as a user runs them: from the command line, against each other, stopped by a signal. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { fileURLToPath } from "node:url";
import { type Host, makeHosts, requires, type VethPair } from "../../support/hosts.ts";

const directory = fileURLToPath(new URL("../../../queues/af-xdp-bindings/examples/", import.meta.url));

describe.skipIf(requires("netns", "veth", "af_xdp", "bpf") !== "")("examples", () => {
  let hosts: VethPair;
  beforeAll(() => {
    hosts = makeHosts({ ipv6: false });
  });
  afterAll(() => hosts.close());

  const start = (host: Host, ...command: string[]) =>
    host.ns.run(() =>
      Bun.spawn([process.execPath, directory + command[0], "veth0", ...command.slice(1)], {
        stdout: "pipe",
        stderr: "pipe",
      }),
    );

  /** Reads a program's output until something matches; throws when it ends before. */
  function outputOf(program: ReturnType<typeof start>): (pattern: RegExp) => Promise<string> {
    const output = program.stdout.getReader();
    return async (pattern) => {
      let text = "";
      for (;;) {
        const { value, done } = await output.read();
        text += new TextDecoder().decode(value);
        const match = text.match(pattern);
        if (match) return match[0];
        if (done) throw new Error(`nothing matches ${pattern} in:\n${text}`);
      }
    };
  }

  for (const [receiver, options] of [
    ["rxdrop.ts", ["--native", "--copy"]],
    ["l2fwd.ts", ["--skb", "--busy-poll", "20"]],
  ] as const) {
    test(`txonly against ${receiver} ${options.join(" ")}, stopped by SIGINT and SIGTERM`, async () => {
      const receiving = start(hosts.b, receiver, ...options);
      const received = outputOf(receiving);
      expect(await received(/copy mode, (native|skb) XDP/)).toBe(`copy mode, ${options[0].slice(2)} XDP`);
      const sending = start(hosts.a, "txonly.ts", "--batch", "16", "--dst", "02:00:5e:00:53:01");
      await received(/[1-9]\d* frames\/s/);
      receiving.kill("SIGINT");
      expect(await received(/\d+ frames in .*: \d+ frames\/s/)).not.toStartWith("0 ");
      sending.kill("SIGTERM");
      expect(await outputOf(sending)(/\d+ frames in .*: \d+ frames\/s/)).not.toStartWith("0 ");
      expect([await receiving.exited, await sending.exited]).toEqual([0, 0]);
      expect(hosts.b.rtnl.link("veth0").xdp).toMatchObject({ driverProgramId: 0, genericProgramId: 0 });
    });
  }

  test("a bad command line is told so", async () => {
    const program = start(hosts.a, "txonly.ts", "--batch", "0");
    expect([await program.exited, await program.stderr.text()]).toEqual([2, "--batch 0: from 1 to 1024\n"]);
  });

  test("zero copy where there is none fails with a hint", async () => {
    const program = start(hosts.a, "txonly.ts", "--zerocopy");
    expect(await program.exited).toBe(1);
    expect(await program.stderr.text()).toContain('has no zero copy, at least not for this UMEM: use mode "auto"');
  });
});
