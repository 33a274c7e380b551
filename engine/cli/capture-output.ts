/** Where `lcore capture` puts what it captures. */
import { closeSync, fstatSync, ftruncateSync, openSync, writeSync } from "node:fs";
import { FramePrinter } from "./capture-print.ts";
import type { BlockRun } from "./capture-stream.ts";
import { CliError, EXIT_USAGE } from "./failure.ts";

export interface CaptureOutput {
  /** Takes whole blocks. False: whoever read the output has gone. Throws CliError. */
  put(run: BlockRun): boolean;
  close(): void;
}

const STDOUT = 1;

/** The output of `--write`: a file, standard output with "-", or without the option lines. Throws CliError. */
export function openOutput(write: string | undefined): CaptureOutput {
  if (write === undefined) return new LineOutput();
  if (write !== "-") return new FileOutput(openFile(write), write);
  if (process.stdout.isTTY) {
    throw new CliError(
      "capture: -w - would write a capture to the terminal: pipe it, as into `tshark -r -`",
      EXIT_USAGE,
    );
  }
  return new FileOutput(STDOUT, "standard output");
}

function openFile(path: string): number {
  try {
    return openSync(path, "w");
  } catch (error) {
    throw new CliError(`capture: ${(error as Error).message}`);
  }
}

class FileOutput implements CaptureOutput {
  private readonly fd: number;
  private readonly name: string;
  /** Bytes of whole blocks. */
  private length = 0;

  constructor(fd: number, name: string) {
    this.fd = fd;
    this.name = name;
  }

  put({ bytes }: BlockRun): boolean {
    try {
      const read = writeAll(this.fd, bytes, this.name);
      this.length += bytes.length;
      return read;
    } catch (error) {
      this.cutBack(bytes);
      throw error;
    }
  }

  /** A disk that became full has the beginning of `run`: as much of it stays as are whole blocks. */
  private cutBack(run: Uint8Array): void {
    const view = new DataView(run.buffer, run.byteOffset, run.length);
    try {
      const there = fstatSync(this.fd).size - this.length;
      if (there < 0) return;
      let whole = 0;
      for (let next = 0; next <= there && next < run.length; next += view.getUint32(next + 4, true)) whole = next;
      ftruncateSync(this.fd, this.length + whole);
    } catch {
      // A pipe or a device: nothing of it can be taken back.
    }
  }

  close(): void {
    if (this.fd !== STDOUT) closeSync(this.fd);
  }
}

class LineOutput implements CaptureOutput {
  private readonly printer = new FramePrinter();

  put({ bytes }: BlockRun): boolean {
    const lines = this.printer.lines(bytes);
    return lines.length === 0 || writeAll(STDOUT, Buffer.from(`${lines.join("\n")}\n`), "standard output");
  }

  close(): void {}
}

/** Writes everything. False when nobody reads any more. */
function writeAll(fd: number, bytes: Uint8Array, name: string): boolean {
  for (let at = 0; at < bytes.length; ) {
    try {
      at += writeSync(fd, bytes, at, bytes.length - at);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === "EPIPE") return false;
      if (code !== "EAGAIN") throw new CliError(`capture: ${name}: ${(error as Error).message}`);
      // A pipe that somebody made non-blocking, and that is full.
      Bun.sleepSync(1);
    }
  }
  return true;
}
