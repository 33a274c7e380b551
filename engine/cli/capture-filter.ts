/** The program of a capture filter: compiled by the system's tcpdump where there is one, else by lcore. */
import { decodeClassic, type SockFilter } from "../../sockets/bpf/classic.ts";
import { compileExpression, KNOWN_WORDS } from "./capture-expression.ts";
import { CliError, EXIT_USAGE } from "./failure.ts";

/** Compiles an expression in tcpdump's syntax. Throws CliError. */
export async function captureFilter(
  text: string,
  tcpdump: string | null = Bun.which("tcpdump"),
): Promise<SockFilter[]> {
  return tcpdump === null ? ownFilter(text) : await tcpdumpFilter(tcpdump, text);
}

async function tcpdumpFilter(tcpdump: string, text: string): Promise<SockFilter[]> {
  // -y: for Ethernet, without opening an interface.
  const command = [tcpdump, "-ddd", "-y", "EN10MB", "--", text];
  const child = Bun.spawn(command, { stdin: "ignore", stdout: "pipe", stderr: "pipe" });
  const [program, complaint] = await Promise.all([child.stdout.text(), child.stderr.text(), child.exited]);
  if (child.exitCode === 0) return decodeClassic(program);
  const words = complaint.trim().split("\n").at(-1) ?? "";
  throw new CliError(`filter: ${words.replace(/^tcpdump: /, "")}`, EXIT_USAGE);
}

function ownFilter(text: string): SockFilter[] {
  try {
    return compileExpression(text);
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    throw new CliError(
      `filter: ${error.message}; without tcpdump, which is not installed, a filter may have: ${KNOWN_WORDS}`,
      EXIT_USAGE,
    );
  }
}
