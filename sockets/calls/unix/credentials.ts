/** Who sends, and as whom a process may send: struct ucred, SO_PEERCRED, SCM_CREDENTIALS (net/core/scm.c, net/core/sock.c). */
import { readFileSync } from "node:fs";
import { ERRNO, sys } from "af-xdp-bindings";
import type { Limits } from "../../sockopt/limits.ts";

/** struct ucred { i32 pid; u32 uid; u32 gid }. */
const UCRED_BYTES = 12;
/** What a message without credentials is told to come from: overflowuid and overflowgid. */
const NOBODY = 65534;

export interface Credentials {
  readonly pid: number;
  readonly uid: number;
  readonly gid: number;
}

/** Credentials of a message that has none. */
export const UNKNOWN: Credentials = { pid: 0, uid: NOBODY, gid: NOBODY };
/** Those told where there was no message. */
export const NO_MESSAGE: Credentials = { pid: 0, uid: 0, gid: 0 };
/** SO_PEERCRED of a socket without a peer. */
export const NO_PEER: Credentials = { pid: 0, uid: -1, gid: -1 };

/** What a message from this process carries. */
export const senderCredentials = (): Credentials => ({
  pid: process.pid,
  uid: process.getuid!(),
  gid: process.getgid!(),
});

/** What SO_PEERCRED of the other side tells. */
export const peerCredentials = (): Credentials => ({
  pid: process.pid,
  uid: process.geteuid!(),
  gid: process.getegid!(),
});

export const encodeCredentials = ({ pid, uid, gid }: Credentials): Uint8Array =>
  new Uint8Array(Int32Array.of(pid, uid, gid).buffer);

/** Of a whole SCM_CREDENTIALS. */
export function decodeCredentials(data: Uint8Array): Credentials {
  const view = new DataView(data.buffer, data.byteOffset);
  return { pid: view.getInt32(0, true), uid: view.getUint32(4, true), gid: view.getUint32(8, true) };
}

export function sameCredentials(a: Credentials, b: Credentials): boolean {
  return a.pid === b.pid && a.uid === b.uid && a.gid === b.gid;
}

/** scm_check_creds() and the look for the process: the credentials of a control message, or -errno. */
export function checkCredentials(data: Uint8Array, limits: Limits): Credentials | number {
  if (data.length !== UCRED_BYTES) return -ERRNO.EINVAL;
  const view = new DataView(data.buffer, data.byteOffset);
  const [pid, uid, gid] = [view.getInt32(0, true), view.getInt32(4, true), view.getInt32(8, true)];
  if (uid === -1 || gid === -1) return -ERRNO.EINVAL;
  if (pid !== process.pid && !limits.sysAdmin) return -ERRNO.EPERM;
  if (!limits.setUid && !ownIds("Uid").includes(uid >>> 0)) return -ERRNO.EPERM;
  if (!limits.setGid && !ownIds("Gid").includes(gid >>> 0)) return -ERRNO.EPERM;
  return pid === process.pid || exists(pid) ? { pid, uid: uid >>> 0, gid: gid >>> 0 } : -ERRNO.ESRCH;
}

/** Supplementary groups of this process (SO_PEERGROUPS). */
export const ownGroups = (): number[] => statusOf("Groups");

/** Real, effective and saved id. */
const ownIds = (label: "Uid" | "Gid"): number[] => statusOf(label).slice(0, 3);

function statusOf(label: string): number[] {
  const [, line] = new RegExp(`^${label}:(.*)$`, "m").exec(readFileSync("/proc/self/status", "utf8")) ?? ["", ""];
  return line.split(/\s+/).filter(Boolean).map(Number);
}

const exists = (pid: number): boolean => pid > 0 && sys.sys3(sys.SYS.kill, pid, 0, 0) !== -ERRNO.ESRCH;
