/** The rtnetlink constants against the kernel's headers, where a C compiler and the headers are installed. */
import { expect, test } from "bun:test";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as uapi from "../../../engine/host/rtnetlink-uapi.ts";

const compiler = Bun.which("cc");

/** NUD_VALID is include/net/neighbour.h: kernel-internal. The address families are the C library's. */
const names = Object.keys(uapi).filter((name) => name !== "NUD_VALID");

const SOURCE = `
#include <stdio.h>
#include <sys/socket.h>
#include <linux/if.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/fib_rules.h>
#include <linux/neighbour.h>
#include <linux/net_namespace.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
int main(void) {
${names.map((name) => `  printf("${name} %lld\\n", (long long)${name});`).join("\n")}
  return 0;
}
`;

test.skipIf(compiler === null || !existsSync("/usr/include/linux/rtnetlink.h"))("constants are the headers'", () => {
  const directory = mkdtempSync(join(tmpdir(), "rtnetlink-uapi-"));
  try {
    writeFileSync(join(directory, "uapi.c"), SOURCE);
    const built = Bun.spawnSync([compiler as string, "-o", "uapi", "uapi.c"], { cwd: directory });
    expect(built.stderr.toString()).toBe("");
    const lines = Bun.spawnSync([join(directory, "uapi")])
      .stdout.toString()
      .trim()
      .split("\n");
    const theirs = Object.fromEntries(lines.map((line) => [line.split(" ")[0], Number(line.split(" ")[1])]));
    expect(theirs).toEqual(Object.fromEntries(Object.entries(uapi).filter(([name]) => name !== "NUD_VALID")));
  } finally {
    rmSync(directory, { recursive: true });
  }
});
