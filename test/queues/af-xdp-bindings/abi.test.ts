/** The constants and layouts of abi.ts against the C compiler's, for as much as the machine's headers know. */
import { afterAll, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { abi, PAGE_SIZE } from "af-xdp-bindings";

const directory = mkdtempSync(join(tmpdir(), "af-xdp-abi-"));
afterAll(() => rmSync(directory, { recursive: true }));

const INCLUDES = `
#include <stddef.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <linux/types.h>
#include <linux/bpf.h>
#include <linux/if_xdp.h>
`;

const compiler = Bun.which("cc");
const preprocessed = compiler ? run([compiler, "-E", "-dM", write("macros.c", INCLUDES)]) : "";
const macros = new Set([...preprocessed.matchAll(/^#define (\w+)/gm)].map((match) => match[1]));

/** Names of ours that no header has, by design. */
const OURS = new Set(["TX_BATCH_SIZE", "TX_METADATA_LEN_END", "MAX_SKB_FRAGS", "XDP_UMEM_MIN_CHUNK_SIZE"]);
/** Spelt as an enum constant in the C library's headers, so no macro shows it. */
const ENUMS = new Set(["SOCK_RAW", "SOCK_CLOEXEC", "MSG_DONTWAIT", "XDP_PACKET_HEADROOM"]);

const numbers = Object.entries(abi).filter((entry): entry is [string, number] => typeof entry[1] === "number");
const structs = Object.entries(abi).filter(
  (entry): entry is [string, (typeof entry)[1] & object] => typeof entry[1] === "object",
);

describe.skipIf(!macros.has("XDP_UMEM_REG"))("abi.ts against linux/if_xdp.h", () => {
  const known = numbers.filter(([name]) => macros.has(name) || ENUMS.has(name));

  test("constants", () => {
    expect(known.length).toBeGreaterThanOrEqual(40);
    const expressions = known.map(([name]) => `(unsigned long long)(${name})`);
    const values = evaluate(expressions);
    expect(Object.fromEntries(known.map(([name], i) => [name, values[i]]))).toEqual(Object.fromEntries(known));
  });

  test("every constant that the headers lack is newer than they are, or ours", () => {
    const newer = numbers
      .map(([name]) => name)
      .filter((name) => !macros.has(name) && !ENUMS.has(name) && !OURS.has(name));
    const SINCE_6_6 = /^(XDP_USE_SG|XDP_MAX_TX_SKB_BUDGET|XDP_UMEM_TX_\w+|XDP_PKT_CONTD|XDP_TX_METADATA|XDP_TXMD_\w+)$/;
    // linux/socket.h of the kernel has it, the C library's header only sometimes.
    const SINCE_GLIBC = /^(SO_NETNS_COOKIE|AF_XDP|SOL_XDP)$/;
    expect(newer.filter((name) => !SINCE_6_6.test(name) && !SINCE_GLIBC.test(name))).toEqual([]);
  });

  for (const [name, layout] of structs) {
    // Debian 12's header is Linux 6.1's: no xsk_tx_metadata, and no name yet for xdp_umem_reg's last field.
    if (name === "xsk_tx_metadata" && !macros.has("XDP_TX_METADATA")) continue;
    test(`struct ${name}`, () => {
      const fields = Object.entries(layout).filter(
        ([field]) => field !== "size" && (field !== "tx_metadata_len" || macros.has("XDP_UMEM_TX_METADATA_LEN")),
      );
      const offsets = fields.map(([field]) => `offsetof(struct ${name}, ${member(field)})`);
      const values = evaluate([`sizeof(struct ${name})`, ...offsets]);
      expect(["size", ...fields.map(([field]) => field)].map((field, i) => [field, values[i]])).toEqual([
        ["size", layout.size],
        ...fields,
      ]);
    });
  }

  test("page size", () => {
    expect(PAGE_SIZE).toBe(Number(run(["getconf", "PAGESIZE"])));
  });
});

/** The fields of xsk_tx_metadata live in a union of two structs. */
function member(field: string): string {
  if (/^(csum_start|csum_offset|launch_time)$/.test(field)) return `request.${field}`;
  return field === "tx_timestamp" ? "completion.tx_timestamp" : field;
}

/** Values of C expressions, by a compiled program. */
function evaluate(expressions: string[]): number[] {
  const prints = expressions.map((expression) => `printf("%llu\\n", (unsigned long long)(${expression}));`);
  const binary = join(directory, "evaluate");
  run([compiler as string, "-o", binary, write("evaluate.c", `${INCLUDES}int main(void) { ${prints.join("\n")} }`)]);
  return run([binary]).trim().split("\n").map(Number);
}

function write(name: string, text: string): string {
  const path = join(directory, name);
  writeFileSync(path, text);
  return path;
}

function run(command: string[]): string {
  const { exitCode, stdout, stderr } = Bun.spawnSync(command);
  if (exitCode !== 0) throw new Error(`${command.join(" ")}: ${stderr}`);
  return stdout.toString();
}
