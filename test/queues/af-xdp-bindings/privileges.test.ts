/** What the errors say where a privilege is missing: a child process without it tries. */
import { describe, expect, test } from "bun:test";
import { fileURLToPath } from "node:url";
import { requires } from "../../support/hosts.ts";

const script = fileURLToPath(new URL("./open-xsk.ts", import.meta.url));
const tools = ["setpriv", "prlimit"].filter((tool) => Bun.which(tool) === null);
if (tools.length > 0) console.warn(`skipped tests: privileges.test.ts needs ${tools.join(", ")} (util-linux)`);

describe.skipIf(tools.length > 0 || requires("af_xdp") !== "")("privileges", () => {
  /** The error of opening an XSK on a 512 KiB UMEM without a capability, with 64 KiB of RLIMIT_MEMLOCK. */
  function openWithout(capability: string): { code?: string; syscall?: string; hint?: string } {
    const drop = ["--bounding-set", `-${capability}`, "--inh-caps", `-${capability}`];
    const { stdout, stderr, exitCode } = Bun.spawnSync(
      ["prlimit", "--memlock=65536:65536", "setpriv", ...drop, process.execPath, script],
      { cwd: fileURLToPath(new URL("../../..", import.meta.url)) },
    );
    if (exitCode !== 0) throw new Error(stderr.toString());
    return JSON.parse(stdout.toString());
  }

  test("with every capability the memlock limit does not matter", () => {
    expect(openWithout("sys_boot")).toEqual({});
  });

  test("without CAP_NET_RAW: EPERM from socket", () => {
    const error = openWithout("net_raw");
    expect([error.code, error.syscall]).toEqual(["EPERM", "socket(AF_XDP)"]);
    expect(error.hint).toContain("needs CAP_NET_RAW");
  });

  test("without CAP_IPC_LOCK: ENOBUFS from XDP_UMEM_REG, and how much is needed", () => {
    const error = openWithout("ipc_lock");
    expect([error.code, error.syscall]).toEqual(["ENOBUFS", "setsockopt(XDP_UMEM_REG)"]);
    expect(error.hint).toStartWith("pinning the UMEM needs 524288 more bytes of RLIMIT_MEMLOCK (ulimit -l 512 plus");
  });
});
