/** What the engine of the drop-in sockets is started with. */
import { describe, expect, test } from "bun:test";
import { optionsFromEnvironment, withPoll } from "../../engine/dropin/default-engine.ts";

describe("environment", () => {
  test("every variable is an option", () => {
    const options = optionsFromEnvironment({
      LCORE_PROVIDER: "engine",
      LCORE_INTERFACE: "eth0",
      LCORE_CPUS: "2-3,6",
      LCORE_QUEUES: "all",
      LCORE_MODE: "skb",
      LCORE_POLL: "busy",
      LCORE_SPIN_US: "5",
      LCORE_ADDRESSES: "198.18.0.2,2001:db8::2",
    });
    expect(options as object).toEqual({
      provider: "engine",
      interface: "eth0",
      cpus: [2, 3, 6],
      queues: "all",
      mode: "skb",
      poll: "busy",
      spinUs: 5,
      addresses: ["198.18.0.2", "2001:db8::2"],
    });
  });

  test("what is empty is not set", () => {
    expect(optionsFromEnvironment({ LCORE_INTERFACE: "", LCORE_CPUS: "" })).toEqual({});
  });

  test.each([
    ["LCORE_CPUS", "a"],
    ["LCORE_CPUS", "1,1"],
    ["LCORE_POLL", "often"],
    ["LCORE_MODE", "fast"],
    ["LCORE_PROVIDER", "af_xdp"],
    ["LCORE_FRAMES", "-1"],
    ["LCORE_GATEWAYS", "198.18.0"],
  ])("%s=%s says nothing sensible", (name, value) => {
    expect(() => optionsFromEnvironment({ [name]: value })).toThrow(`${name}=${value}: `);
  });
});

describe("poll", () => {
  test("an lcore does not spin on the only CPUs that the program has", () => {
    expect(withPoll({ cpus: [1] }, [1]).poll).toBe("interrupt");
    expect(withPoll({ cpus: [1, 2] }, [1, 2]).poll).toBe("interrupt");
    expect(withPoll({}, [1]).poll).toBe("interrupt");
  });

  test("with a CPU beside theirs, or when asked, it does as ever", () => {
    expect(withPoll({ cpus: [1] }, [0, 1]).poll).toBeUndefined();
    expect(withPoll({}, [0, 1]).poll).toBeUndefined();
    expect(withPoll({ cpus: [1], poll: "busy" }, [1]).poll).toBe("busy");
  });

  test("kernel sockets have no lcore that could spin, unless it runs a module", () => {
    expect(withPoll({ provider: "kernel" }, [1])).toEqual({ provider: "kernel" });
    expect(withPoll({ provider: "kernel", module: "m.ts" }, [1]).poll).toBe("interrupt");
  });
});
