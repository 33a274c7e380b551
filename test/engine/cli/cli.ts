/** The command line as users run it: a process with arguments, output and a status. */
import type { NetNs } from "../../../engine/host/netns.ts";

const MAIN = new URL("../../../engine/cli/main.ts", import.meta.url).pathname;
const NOBODY = 65534;

export interface Run {
  /** Namespace to run in. */
  ns?: NetNs;
  /** Run without any privilege. */
  unprivileged?: boolean;
  /** A module that is loaded before the command. */
  preload?: string;
  /** Variables beside those of the test. Programs that the command starts inherit them. */
  env?: Record<string, string>;
}

export interface Finished {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** What a stream has said so far, and waiting for more of it. */
class Output {
  text = "";
  private readonly reader: AsyncIterator<string>;

  constructor(stream: ReadableStream<Uint8Array<ArrayBuffer>>) {
    this.reader = stream.pipeThrough(new TextDecoderStream())[Symbol.asyncIterator]();
  }

  /** Everything up to and including the first whole line that begins with `start`. */
  async until(start: string): Promise<string> {
    const isThere = (): boolean => this.text.startsWith(start) || this.text.includes(`\n${start}`);
    while (!isThere() || !this.text.endsWith("\n")) {
      if (!(await this.more())) throw new Error(`no line "${start}", but: ${this.text}`);
    }
    return this.text;
  }

  async all(): Promise<string> {
    while (await this.more());
    return this.text;
  }

  private async more(): Promise<boolean> {
    const { value, done } = await this.reader.next();
    if (!done) this.text += value;
    return !done;
  }
}

/** A running command. */
export class Cli {
  readonly child: Bun.Subprocess<"ignore", "pipe", "pipe">;
  readonly stdout: Output;
  readonly stderr: Output;

  constructor(args: readonly string[], { ns, unprivileged, preload, env }: Run = {}) {
    const drop = ["setpriv", `--reuid=${NOBODY}`, `--regid=${NOBODY}`, "--clear-groups"];
    const bun = [process.execPath, ...(preload === undefined ? [] : ["--preload", preload])];
    const command = [...(unprivileged ? drop : []), ...bun, MAIN, ...args];
    const options = { stdin: "ignore", stdout: "pipe", stderr: "pipe", env: { ...process.env, ...env } } as const;
    this.child = ns === undefined ? Bun.spawn(command, options) : ns.run(() => Bun.spawn(command, options));
    this.stdout = new Output(this.child.stdout);
    this.stderr = new Output(this.child.stderr);
  }

  kill(signal: NodeJS.Signals): void {
    this.child.kill(signal);
  }

  async finish(): Promise<Finished> {
    const [stdout, stderr] = await Promise.all([this.stdout.all(), this.stderr.all(), this.child.exited]);
    return { status: this.child.exitCode, stdout, stderr };
  }
}

export const lcore = (args: string[], run: Run = {}): Promise<Finished> => new Cli(args, run).finish();
