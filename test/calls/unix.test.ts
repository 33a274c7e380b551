/** Scenarios of AF_UNIX on the kernel's sockets and on those of a process: everything that is recorded is equal. */
import { afterAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { fileURLToPath } from "node:url";
import { Comparison } from "./unix/compare.ts";
import { UNIX_SCENARIOS } from "./unix/scenarios.ts";

setDefaultTimeout(60_000);

const comparison = new Comparison();
afterAll(() => comparison.close());

describe("AF_UNIX as the kernel's", () => {
  test("so many", () => {
    expect(UNIX_SCENARIOS.length).toBeGreaterThan(4000);
    expect(new Set(UNIX_SCENARIOS.map(({ name }) => name)).size).toBe(UNIX_SCENARIOS.length);
  });

  test.each(UNIX_SCENARIOS.map((scenario) => [scenario.name, scenario] as const))("%s", (_, scenario) => {
    const { ours, kernels, left } = comparison.play(scenario);
    expect(ours).toEqual(kernels);
    expect(left).toBe(0);
  });
});

/** For the bound on descriptors in flight, which counts those of all processes of a user. */
const LIMIT = ["prlimit", "--nofile=1140:1140"];
const tools = ["setpriv", "prlimit"].filter((tool) => Bun.which(tool) === null);

describe.skipIf(tools.length > 0 || process.getuid!() !== 0)("as other users", () => {
  const script = fileURLToPath(new URL("./modules/unix-differences.ts", import.meta.url));
  const none = ["--bounding-set=-all", "--inh-caps=-all"];
  test.each([
    ["nobody", [...LIMIT, "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", ...none]],
    ["a user with groups", [...LIMIT, "setpriv", "--reuid=1000", "--regid=7", "--groups=5,6,7", ...none]],
    ["root without capabilities", ["setpriv", ...none]],
  ])("%s: what may be sent and set", (_, privileges) => {
    const { stdout, stderr, exitCode } = Bun.spawnSync([...privileges, process.execPath, script]);
    if (exitCode !== 0) throw new Error(stderr.toString());
    const { played, refused, different } = JSON.parse(stdout.toString());
    expect(different).toEqual([]);
    expect(played).toBeGreaterThan(300);
    // It is another user indeed.
    expect(refused).toBeGreaterThan(20);
  });
});
