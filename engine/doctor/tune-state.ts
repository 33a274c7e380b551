/**
 * What `lcore tune` has changed, and what was there before: a JSON file an interface, in a directory that is this user's
 * alone and ends with the settings themselves, at a reboot: /run/lcore, or $XDG_RUNTIME_DIR/lcore for who may not write
 * there.
 *
 * An entry is written before its change is made. So after a crash at any point the file knows of every change; one that
 * was not made after all is found out by its value.
 */
import {
  closeSync,
  existsSync,
  fstatSync,
  fsyncSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import type { NetNs } from "../host/netns.ts";
import { isPrivate, makePrivate } from "../runtime-directory.ts";
import { fileOf, type Target, type Value } from "./change.ts";

const STATE_VERSION = 1;

/** One change that was made, or was about to be. */
export interface Entry {
  readonly target: Target;
  readonly before: Value;
  readonly after: Value;
  /** The finding that it mends. */
  readonly finding: string;
}

interface State {
  readonly version: number;
  readonly interface: string;
  readonly ifindex: number;
  readonly entries: readonly Entry[];
}

/** The state of one interface. Of a name there may be one in each network namespace, whose inode tells them apart. */
export class StateFile {
  readonly path: string;
  private readonly name: string;
  private readonly ifindex: number;

  /** `ifindex` is 0 where the interface is gone. Throws where no directory can be made. */
  constructor(ns: NetNs, name: string, ifindex: number, directories = stateDirectories()) {
    this.name = name;
    this.ifindex = ifindex;
    const file = `tune-${fstatSync(ns.fd).ino}-${name}.json`;
    const kept = directories.find((directory) => isPrivate(directory) && existsSync(join(directory, file)));
    const directory = kept ?? directories.find(makePrivate);
    if (directory === undefined) {
      throw new Error(`none of ${directories.join(", ")} can be written: what is there now could not be put back`);
    }
    this.path = join(directory, file);
  }

  /**
   * Entries in the order in which they were made. Those of an interface that has been deleted since are left out, also
   * where another one has its name. Throws where the file is not what save() wrote.
   */
  load(): readonly Entry[] {
    if (!existsSync(this.path)) return [];
    const state = parse(readFileSync(this.path, "utf8"), this.path);
    if (state.ifindex === this.ifindex) return state.entries;
    return state.entries.filter(({ target }) => !("interface" in target) || target.interface !== this.name);
  }

  /** Replaces the file, or removes it when nothing is left. Whoever reads it, also after a crash, sees all or nothing. */
  save(entries: readonly Entry[]): void {
    // One name, so that what a killed process had begun to write is written over or removed.
    const next = `${this.path}.next`;
    if (entries.length === 0) {
      for (const path of [next, this.path]) rmSync(path, { force: true });
      return;
    }
    const state: State = { version: STATE_VERSION, interface: this.name, ifindex: this.ifindex, entries };
    const fd = openSync(next, "w", 0o600);
    try {
      writeSync(fd, `${JSON.stringify(state, null, 2)}\n`);
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
    renameSync(next, this.path);
  }
}

/** The preferred one first. Root's $XDG_RUNTIME_DIR ends with its last session, so it comes second. */
function stateDirectories(): string[] {
  const { XDG_RUNTIME_DIR } = process.env;
  return ["/run/lcore", ...(XDG_RUNTIME_DIR ? [join(XDG_RUNTIME_DIR, "lcore")] : [])];
}

function parse(text: string, path: string): State {
  let state: State | null = null;
  try {
    state = JSON.parse(text) as State;
  } catch {
    // Told below, with the path.
  }
  if (state?.version !== STATE_VERSION || !Array.isArray(state.entries)) {
    throw new Error(`${path}: not a state file of version ${STATE_VERSION}; remove it to go on without undo`);
  }
  for (const entry of state.entries) checkEntry(entry, path);
  return state;
}

/** Files that may be written: nothing else, whatever a state file says. */
const WRITABLE = [
  /^\/proc\/sys\/(net|kernel)\/[\w/.-]+$/,
  /^\/proc\/irq\/\d+\/smp_affinity_list$/,
  /^\/sys\/class\/net\/[^/]+\/(gro_flush_timeout|napi_defer_hard_irqs|queues\/rx-\d+\/rps_cpus)$/,
  /^\/sys\/devices\/system\/cpu\/cpu\d+\/(cpufreq\/scaling_governor|cpuidle\/state\d+\/disable)$/,
];
const DEVICE_KINDS = ["channels", "rings", "features", "hash"];

function checkEntry({ target, before, after }: Entry, path: string): void {
  const file = fileOf(target);
  const known = DEVICE_KINDS.includes(target.kind) || WRITABLE.some((pattern) => pattern.test(file));
  if (known && !file.includes("..") && before !== undefined && after !== undefined) return;
  throw new Error(`${path}: an entry about ${file || JSON.stringify(target)}, which tune never changes`);
}
