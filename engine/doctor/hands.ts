/**
 * Reading and setting what changes are about, in one network namespace: files of /proc and /sys, and the ethtool ioctl.
 * Setting does what the change's shell line does.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { ERRNO, errnoName, SysError } from "af-xdp-bindings";
import { Ethtool } from "../host/ethtool.ts";
import type { NetNs } from "../host/netns.ts";
import { Sysfs } from "../host/sysfs.ts";
import { fileOf, isGlobal, type Target, type Value } from "./change.ts";
import { readable } from "./read.ts";

export class Hands {
  private readonly ns: NetNs;
  private readonly ethtool: Ethtool;
  private readonly sysfs: Sysfs;

  /** `ns` stays the caller's, and open as long as this is in use. */
  constructor(ns: NetNs) {
    this.ns = ns;
    this.ethtool = ns.run(() => new Ethtool());
    this.sysfs = ns.run(() => readable(() => Sysfs.open(), Sysfs.mounted()));
  }

  close(): void {
    this.ethtool.close();
    this.sysfs.close();
  }

  /** The present value, of the same names as `like`. Throws SysError. */
  read(target: Target, like: Value): Value {
    switch (target.kind) {
      case "channels":
        return pick(this.ethtool.channels(target.interface), like);
      case "rings":
        return pick(this.ethtool.rings(target.interface), like);
      case "features":
        return this.features(target.interface, like);
      case "hash":
        return { fields: this.ethtool.hashFields(target.interface, target.flow) };
      case "setting":
        return file(fileOf(target), () => plain(this.sysfs.setting(target.interface, target.setting)));
      default:
        return file(fileOf(target), () => this.at(target, () => readFileSync(fileOf(target), "utf8").trim()));
    }
  }

  /** Throws SysError, in words that say what stands in the way. */
  write(target: Target, value: Value): void {
    const { ethtool, sysfs } = this;
    switch (target.kind) {
      case "channels":
        ethtool.setChannels(target.interface, value as Record<string, number>);
        break;
      case "rings":
        ethtool.setRings(target.interface, value as Record<string, number>);
        break;
      case "features":
        ethtool.setFeatures(target.interface, value as Record<string, boolean>);
        break;
      case "hash":
        ethtool.setHashFields(target.interface, target.flow, (value as { fields: string }).fields);
        break;
      case "setting":
        file(fileOf(target), () => sysfs.setSetting(target.interface, target.setting, String(value)));
        break;
      default:
        file(fileOf(target), () => this.at(target, () => writeFileSync(fileOf(target), String(value))));
    }
  }

  /** Where the target is: in the namespace, or, of the machine's, where the caller is. */
  private at<T>(target: Target, act: () => T): T {
    return target.kind === "sysctl" && !isGlobal(target.name) ? this.ns.run(act) : act();
  }

  private features(name: string, like: Value): Value {
    const now = this.ethtool.features(name);
    const names = Object.keys(like);
    return Object.fromEntries(names.map((feature) => [feature, now.get(feature)?.active ?? false]));
  }
}

/** Whether two values are the same: letters of a hash in any order, numbers however long they are written. */
export function same(a: Value, b: Value): boolean {
  return Bun.deepEquals(normal(a), normal(b));
}

function normal(value: Value): Value {
  if (typeof value === "string") return plain(value);
  const { fields } = value;
  return typeof fields === "string" ? { fields: [...fields].toSorted().join("") } : value;
}

/** A CPU mask without the words and zeros before its first digit; other text as it is. */
const plain = (text: string): string => (/^[0-9a-f,]+$/.test(text) ? text.replace(/^[0,]+(?=.)/, "") : text);

/** The fields of `like` from a larger object. */
function pick(all: object, like: Value): Value {
  const fields = all as Record<string, number>;
  return Object.fromEntries(Object.keys(like).map((name) => [name, fields[name] ?? 0]));
}

const HINTS: Record<string, string> = {
  ENOENT: "this kernel or driver has no such setting",
  EACCES: "needs root",
  EPERM: "needs root",
  EROFS: "mounted read-only, as in most containers: set it on the host",
  EIO: "the kernel manages this interrupt's CPUs itself",
  EINVAL: "not a value that the kernel takes here",
  EBUSY: "the driver refuses it while it is in use",
};

/** Runs what touches a file, with its errors as SysErrors. */
function file<T>(path: string, act: () => T): T {
  try {
    return act();
  } catch (error) {
    const { errno } = error as NodeJS.ErrnoException;
    if (error instanceof SysError || errno === undefined) throw error;
    const number = Math.abs(errno) || ERRNO.EIO;
    throw new SysError(number, path, HINTS[errnoName(number)] ?? "");
  }
}
