/** Maps, programs and links of the kernel's, counted as bpftool does: by their ids, whoever holds them. */
import { readdirSync, readFileSync } from "node:fs";
import { check, ERRNO, sys } from "af-xdp-bindings";

/** enum bpf_cmd: linux/bpf.h */
const GET_FD_BY_ID = { prog: 13, map: 14, link: 30 } as const;
const BPF_LINK_DETACH = 34;

type Kind = keyof typeof GET_FD_BY_ID;

function bpf(command: number, word: number): number {
  const attr = new Uint32Array(4);
  attr[0] = word;
  return sys.sys3(sys.SYS.bpf, command, sys.addressOf(attr), attr.byteLength);
}

/** A descriptor of the object, or -1 where there is none of this id. */
function open(kind: Kind, id: number): number {
  const fd = bpf(GET_FD_BY_ID[kind], id);
  return fd === -ERRNO.ENOENT ? -1 : check(fd, `bpf(${kind} ${id})`);
}

/** "map 7", "link 3" …: what this process has open now. */
export function held(): Set<string> {
  const found = new Set<string>();
  for (const fd of readdirSync("/proc/self/fd")) {
    for (const [, kind, id] of fdinfo(fd).matchAll(/^(prog|map|link)_id:\s*(\d+)$/gm)) found.add(`${kind} ${id}`);
  }
  return found;
}

function fdinfo(fd: string): string {
  try {
    return readFileSync(`/proc/self/fdinfo/${fd}`, "utf8");
  } catch {
    // The descriptor of the directory itself, closed by now.
    return "";
  }
}

/** Those of them that still exist. */
export function alive(objects: Iterable<string>): string[] {
  return [...objects].filter((object) => {
    const [kind, id] = object.split(" ");
    const fd = open(kind as Kind, Number(id));
    if (fd >= 0) sys.close(fd);
    return fd >= 0;
  });
}

/** As `bpftool link detach id ID`: the program goes, although its owner still has the link. Throws SysError. */
export function detach(link: string): void {
  const fd = open("link", Number(link.split(" ")[1]));
  try {
    check(bpf(BPF_LINK_DETACH, fd), "bpf(BPF_LINK_DETACH)");
  } finally {
    sys.close(fd);
  }
}
