/** What the engine's threads post to the one that started them, and how errors cross. */
import { SysError } from "af-xdp-bindings";

export interface ErrorDescription {
  readonly message: string;
  readonly stack: string;
  readonly sys: { readonly errno: number; readonly syscall: string; readonly hint: string } | null;
}

export type FromThread =
  | {
      readonly type: "ready";
      readonly thread: number;
      readonly zeroCopy: boolean;
      readonly affinity: number[];
      /** Descriptors of the thread's AF_XDP sockets, in the order of its queues. */
      readonly xsks: number[];
    }
  /** Another station has an address of the engine's own, as text; `lost`: ours is not used. */
  | { readonly type: "conflict"; readonly address: string; readonly mac: string; readonly lost: boolean }
  /** Own addresses are no longer checked for other users: those that are used, as text. */
  | { readonly type: "settled"; readonly addresses: string[] }
  /** A line for whoever started the engine. */
  | { readonly type: "notice"; readonly text: string }
  | { readonly type: "stopped"; readonly thread: number }
  | { readonly type: "failed"; readonly thread: number; readonly error: ErrorDescription };

/** An error as plain data: class instances do not survive postMessage. */
export function describeError(error: unknown): ErrorDescription {
  if (error instanceof SysError) {
    const { errno, syscall, hint, message, stack } = error;
    return { message, stack: stack ?? "", sys: { errno, syscall, hint } };
  }
  if (error instanceof Error) return { message: error.message, stack: error.stack ?? "", sys: null };
  return { message: String(error), stack: "", sys: null };
}

/** The error again, with the stack of the thread it came from. */
export function restoreError(thread: string, description: ErrorDescription): Error {
  const { message, stack, sys } = description;
  if (sys !== null) {
    const error = new SysError(sys.errno, sys.syscall, sys.hint);
    error.stack = stack;
    return error;
  }
  const error = new Error(`${thread}: ${message}`);
  error.stack = `${error.message}\n${stack}`;
  return error;
}
