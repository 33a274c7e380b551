/** The layouts and numbers of uapi.ts and helpers.ts against the C compiler's, where one and the headers are there. */
import { expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { HELPER } from "../../../queues/af-xdp-bindings/src/bpf/helpers.ts";
import * as uapi from "../../../queues/af-xdp-bindings/src/bpf/uapi.ts";

/** C expression to our value: `offsetof(type, path)` of each field. */
const offsets = (type: string, path: string, fields: Record<string, number>, rename: Record<string, string> = {}) =>
  Object.entries(fields).map(([name, value]): [string, number] => [
    `offsetof(${type}, ${path}${rename[name] ?? name})`,
    value,
  ]);

const attr = "union bpf_attr";
const EXPRESSIONS: [string, number][] = [
  ...Object.entries(uapi.CMD),
  ...Object.entries(uapi.MAP_TYPE),
  ...Object.entries(uapi.PROG_TYPE),
  ...Object.entries(HELPER).map(([name, number]): [string, number] => [`BPF_FUNC_${name}`, number]),
  ...Object.entries(uapi).filter((entry): entry is [string, number] => {
    // Our own sizes are compared below; every other number carries its C name.
    return typeof entry[1] === "number" && !["ATTR_SIZE", "INFO_SIZE", "XDP_MD_SIZE"].includes(entry[0]);
  }),
  ["sizeof(struct xdp_md)", uapi.XDP_MD_SIZE],
  ...offsets(attr, "", uapi.MAP_CREATE),
  ...offsets(attr, "", uapi.MAP_ELEM),
  ...offsets(attr, "batch.", uapi.MAP_BATCH),
  ...offsets(attr, "", uapi.PROG_LOAD),
  ...offsets(attr, "", uapi.OBJ),
  ...offsets(attr, "test.", uapi.TEST_RUN),
  ...offsets(attr, "", uapi.BY_ID),
  ...offsets(attr, "info.", uapi.INFO),
  ...offsets(attr, "link_create.", uapi.LINK_CREATE),
  ...offsets(attr, "link_update.", uapi.LINK_UPDATE),
  ...offsets(attr, "link_detach.", uapi.LINK_DETACH),
  ...offsets("struct bpf_map_info", "", uapi.MAP_INFO),
  ...offsets("struct bpf_prog_info", "", uapi.PROG_INFO),
  ...offsets("struct bpf_link_info", "", uapi.LINK_INFO, { xdp_ifindex: "xdp.ifindex" }),
  ...offsets("struct xdp_md", "", uapi.XDP_MD),
];

const compiler = Bun.which("cc");

test.skipIf(compiler === null)("every offset, size and number is the C headers'", () => {
  const directory = mkdtempSync(join(tmpdir(), "lcore-layout-"));
  try {
    const source = join(directory, "layout.c");
    const program = join(directory, "layout");
    const lines = EXPRESSIONS.map(([expression]) => `  printf("%lld\\n", (long long)(${expression}));`);
    writeFileSync(
      source,
      `#include <stddef.h>\n#include <stdio.h>\n#include <linux/bpf.h>\n#include <linux/if_link.h>\n` +
        `int main(void) {\n  printf("%zu\\n", sizeof(union bpf_attr));\n${lines.join("\n")}\n}\n`,
    );
    const compiled = Bun.spawnSync([compiler as string, "-o", program, source]);
    expect(compiled.stderr.toString()).toBe("");
    const [attrSize, ...values] = Bun.spawnSync([program]).stdout.toString().trim().split("\n").map(Number);
    expect(attrSize).toBeLessThanOrEqual(uapi.ATTR_SIZE);
    expect(EXPRESSIONS.map(([expression], i) => [expression, values[i]])).toEqual(EXPRESSIONS);
  } finally {
    rmSync(directory, { recursive: true });
  }
});
