/** XDP programs on an interface: what they are called, and which processes have them open. */
import { readlinkSync } from "node:fs";
import { attachedXdp, check, programInfo, sys } from "af-xdp-bindings";
import type { AttachedProgram, Holder } from "./facts.ts";
import { readable, readNames, readText } from "./read.ts";

const BPF_PROG_GET_FD_BY_ID = 13;

/** In the thread's namespace. */
export function attachedPrograms(ifindex: number): AttachedProgram[] {
  return attachedXdp(ifindex).map(({ mode, programId }) => ({
    mode,
    id: programId,
    name: readable(() => nameOf(programId), ""),
    holders: holders(programId),
  }));
}

/** Needs CAP_SYS_ADMIN: a program's number alone gives it to nobody else. */
function nameOf(id: number): string {
  // union bpf_attr: start_id
  const attr = new Uint32Array(4);
  attr[0] = id;
  const call = sys.sys3(sys.SYS.bpf, BPF_PROG_GET_FD_BY_ID, sys.addressOf(attr), attr.byteLength);
  const fd = check(call, "bpf(BPF_PROG_GET_FD_BY_ID)");
  try {
    return programInfo(fd).name;
  } finally {
    sys.close(fd);
  }
}

/**
 * Processes with a descriptor of the program or of a link to it: /proc/PID/fdinfo has a line "prog_id:" for both. Only
 * this user's processes tell, root's see all.
 */
function holders(id: number): Holder[] {
  const line = new RegExp(`^prog_id:\\s*${id}$`, "m");
  return readNames("/proc")
    .filter((pid) => /^\d+$/.test(pid) && holds(pid, line))
    .map((pid) => ({ pid: Number(pid), name: readText(`/proc/${pid}/comm`) ?? "" }));
}

function holds(pid: string, line: RegExp): boolean {
  return readNames(`/proc/${pid}/fd`).some((fd) => {
    const target = readable(() => readlinkSync(`/proc/${pid}/fd/${fd}`), "");
    return target.startsWith("anon_inode:bpf") && line.test(readText(`/proc/${pid}/fdinfo/${fd}`) ?? "");
  });
}
