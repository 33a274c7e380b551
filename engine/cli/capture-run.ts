/** Running `lcore capture`. */
import type { SockFilter } from "../../sockets/bpf/classic.ts";
import type { CaptureRequest } from "../capture.ts";
import { type StatsSnapshot, servedEngines } from "../stats.ts";
import type { CaptureOptions } from "./capture.ts";
import { captureFilter } from "./capture-filter.ts";
import { openOutput } from "./capture-output.ts";
import { BlockStream } from "./capture-stream.ts";
import { CliError, EXIT_USAGE } from "./failure.ts";
import { whole } from "./output.ts";
import { StopRequest } from "./signals.ts";
import { findEngine, snapshot } from "./stats-run.ts";

/** An engine begins and ends a capture within its lcores' sleep, unless its main thread is held up. */
const ANSWER_TIMEOUT_MS = 6000;

export async function runCapture(options: CaptureOptions): Promise<void> {
  check(options);
  const program = options.filter === undefined ? undefined : await captureFilter(options.filter);
  const path = await choose(options);
  const stop = new StopRequest();
  const stream = await EngineStream.open(path, requestOf(options, program));
  const output = openOutput(options.write);
  const blocks = new BlockStream(options.count, options.size === undefined ? undefined : options.size * 1e6);
  const timer = options.seconds === undefined ? undefined : setTimeout(() => stream.stop(), options.seconds * 1000);
  stop.abort.addEventListener("abort", () => stream.stop());
  process.stderr.write(`lcore: capturing from ${path}${options.filter ? `, ${options.filter}` : ""}; Ctrl-C ends it\n`);
  try {
    for await (const chunk of stream.chunks()) {
      // Whoever read the output has gone: that is how a pipe ends.
      if (!blocks.take(chunk).every((run) => output.put(run))) break;
      if (blocks.full) stream.stop();
    }
  } finally {
    clearTimeout(timer);
    stream.abandon();
    output.close();
    report(blocks, stream.broken);
  }
}

function check({ pid, socket, interface: name, rx, tx, buffer, size, write }: CaptureOptions): void {
  if ([pid, socket, name].filter((way) => way !== undefined).length > 1) {
    throw new CliError("capture: one of --interface, --pid and --path", EXIT_USAGE);
  }
  if (rx && tx) throw new CliError("capture: either --rx or --tx; without them both directions", EXIT_USAGE);
  if (size !== undefined && write === undefined) {
    throw new CliError("capture: --size is of a file: add --write", EXIT_USAGE);
  }
  if ((buffer & (buffer - 1)) !== 0) throw new CliError(`capture: --buffer ${buffer}: a power of two`, EXIT_USAGE);
}

function requestOf(options: CaptureOptions, program: readonly SockFilter[] | undefined): CaptureRequest {
  const { filter, snaplen, rx, tx, lcore, buffer } = options;
  return {
    filter: program?.map(({ code, jt, jf, k }) => [code, jt, jf, k]),
    filterText: filter,
    snapLength: snaplen,
    rx: !tx,
    tx: !rx,
    lcore,
    ringBytes: buffer * 1024,
  };
}

/** Socket of the engine that is meant. Throws CliError where there is none, or more than one. */
async function choose({ socket, pid, interface: name }: CaptureOptions): Promise<string> {
  if (socket !== undefined) return socket;
  if (name === undefined) return findEngine(pid).path;
  const engines = servedEngines();
  const seen = await Promise.allSettled(engines.map(({ path }) => snapshot(path)));
  const served = seen.map((result) => (result.status === "fulfilled" ? result.value : null));
  const found = engines.filter((_, i) => served[i]?.info.interface === name);
  if (found.length === 1) return found[0].path;
  if (found.length > 1) {
    throw new CliError(`several engines serve ${name}: choose one with --pid ${found.map(({ pid }) => pid).join("|")}`);
  }
  const others = served.filter((stats): stats is StatsSnapshot => stats !== null).map(nameOf);
  const there = others.length === 0 ? "no engine runs that serves statistics" : `there is ${others.join(", ")}`;
  throw new CliError(`no running engine serves ${name}: ${there}`);
}

function nameOf({ pid, info }: StatsSnapshot): string {
  return `process ${pid} on ${info.interface ?? `a wire (${info.attach})`}`;
}

/** A capture of an engine, as it comes. */
class EngineStream {
  /** Why there was an end before the engine's own, "" when there was not. */
  broken = "";
  private readonly path: string;
  private readonly id: string;
  private readonly body: ReadableStream<Uint8Array>;
  private readonly abort: AbortController;
  private stopping = false;
  private deadline: ReturnType<typeof setTimeout> | undefined;

  private constructor(path: string, response: Response, abort: AbortController) {
    this.path = path;
    this.id = response.headers.get("X-Capture") ?? "";
    this.body = response.body as ReadableStream<Uint8Array>;
    this.abort = abort;
  }

  /** Throws CliError in words. */
  static async open(path: string, request: CaptureRequest): Promise<EngineStream> {
    const abort = new AbortController();
    const timer = setTimeout(() => abort.abort(), ANSWER_TIMEOUT_MS);
    try {
      const response = await fetch("http://lcore/capture", {
        unix: path,
        method: "POST",
        body: JSON.stringify(request),
        signal: abort.signal,
        // Nothing may be captured for long.
        timeout: false,
      });
      if (response.ok) return new EngineStream(path, response, abort);
      throw new CliError(`capture: the engine at ${path} refuses: ${(await response.text()).trim()}`);
    } catch (error) {
      if (error instanceof CliError) throw error;
      if (abort.signal.aborted) {
        throw new CliError(`the engine at ${path} did not answer in ${ANSWER_TIMEOUT_MS} ms: its main thread is busy`);
      }
      throw new CliError(`no engine answers at ${path}: it has ended, or the socket is another user's`);
    } finally {
      clearTimeout(timer);
    }
  }

  async *chunks(): AsyncGenerator<Uint8Array> {
    try {
      for await (const chunk of this.body) yield chunk;
    } catch (error) {
      // What came before stands.
      this.broken = this.abort.signal.aborted ? "it did not end when asked to" : (error as Error).message;
    }
  }

  /** Asks the engine to end the capture; what it still has comes before the end. */
  stop(): void {
    if (this.stopping) return;
    this.stopping = true;
    this.deadline = setTimeout(() => this.abort.abort(), ANSWER_TIMEOUT_MS);
    const url = `http://lcore/capture/${this.id}`;
    // When the engine is gone, the stream has ended as well.
    fetch(url, { unix: this.path, method: "DELETE", signal: this.abort.signal }).catch(() => {});
  }

  abandon(): void {
    clearTimeout(this.deadline);
    this.abort.abort();
  }
}

/** How many frames, and why there are no more. */
function report(blocks: BlockStream, broken: string): void {
  const { packets, dropped, reason } = blocks;
  const lost = dropped === 0 ? "" : `, ${whole(dropped)} lost because the ring was full`;
  process.stderr.write(`lcore: ${whole(packets)} ${packets === 1 ? "frame" : "frames"} captured${lost}\n`);
  if (reason !== "") process.stderr.write(`lcore: ${reason}\n`);
  else if (broken !== "") process.stderr.write(`lcore: the engine has gone: ${broken}\n`);
}
