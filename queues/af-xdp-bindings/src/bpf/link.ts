/** BPF links: an XDP program attached to an interface for as long as a descriptor or pin holds the link. */
import { type ErrnoName, SysError } from "../errno.ts";
import * as sys from "../sys.ts";
import { attachedXdp } from "./attached.ts";
import { Attr, bpf, checkBpf } from "./call.ts";
import { getObject, pinObject } from "./pin.ts";
import { type Program, programInfo } from "./program.ts";
import {
  BPF_F_REPLACE,
  BPF_XDP,
  BY_ID,
  INFO,
  INFO_SIZE,
  LINK_CREATE,
  LINK_DETACH,
  LINK_INFO,
  LINK_UPDATE,
  XDP_FLAGS_DRV_MODE,
  XDP_FLAGS_SKB_MODE,
} from "./uapi.ts";

/** native: in the driver, before the kernel makes an skb. skb: behind that, for any interface. */
export type XdpMode = "native" | "skb";

/** What the kernel says of a link: struct bpf_link_info. */
export interface LinkInfo {
  readonly type: number;
  readonly id: number;
  readonly programId: number;
  /** Interface of an XDP link; 0 once it is detached or its interface is gone. */
  readonly ifindex: number;
}

export class Link {
  readonly fd: number;
  #closed = false;

  /** Takes over a descriptor. */
  constructor(fd: number) {
    this.fd = fd;
  }

  /** Opens a link pinned in a BPF file system. */
  static open(path: string): Link {
    return new Link(getObject(path));
  }

  get info(): LinkInfo {
    return linkInfo(this.fd);
  }

  /** Replaces the program without a gap. With `expected`, only if that is the one attached (else throws EPERM). */
  update(program: Program, expected?: Program): void {
    const attr = new Attr().u32(LINK_UPDATE.link_fd, this.fd).u32(LINK_UPDATE.new_prog_fd, program.fd);
    if (expected) attr.u32(LINK_UPDATE.flags, BPF_F_REPLACE).u32(LINK_UPDATE.old_prog_fd, expected.fd);
    checkBpf(bpf("BPF_LINK_UPDATE", attr), "BPF_LINK_UPDATE", {
      EPERM: "another program than the expected one is attached",
      ENOLINK: "the link is detached or its interface is gone",
      EINVAL: "the new program's type or frags flag does not suit the link",
    });
  }

  /** Detaches now, although other descriptors may hold the link. Linux 5.9. */
  detach(): void {
    checkBpf(bpf("BPF_LINK_DETACH", new Attr().u32(LINK_DETACH.link_fd, this.fd)), "BPF_LINK_DETACH");
  }

  /** Keeps the program attached after the process has gone. */
  pin(path: string): void {
    pinObject(this.fd, path);
  }

  /** Closes the descriptor; the last one detaches the program, unless the link is pinned. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    sys.close(this.fd);
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** Attaches an XDP program to an interface of the calling thread's network namespace. Linux 5.9. */
export function attachXdp(program: Program, ifindex: number, mode: XdpMode): Link {
  const attr = new Attr()
    .u32(LINK_CREATE.prog_fd, program.fd)
    .u32(LINK_CREATE.target_ifindex, ifindex)
    .u32(LINK_CREATE.attach_type, BPF_XDP)
    .u32(LINK_CREATE.flags, mode === "native" ? XDP_FLAGS_DRV_MODE : XDP_FLAGS_SKB_MODE);
  const result = bpf("BPF_LINK_CREATE", attr);
  const detail = `ifindex ${ifindex}, ${mode} mode`;
  return new Link(checkBpf(result, "BPF_LINK_CREATE", result < 0 ? attachHints(ifindex, mode) : {}, detail));
}

function attachHints(ifindex: number, mode: XdpMode): Partial<Record<ErrnoName, string>> {
  const occupied = `${describeAttached(ifindex)}: stop its owner, or \`ip link set dev … xdp off\` if ip attached it`;
  return {
    EBUSY: occupied,
    EEXIST: `an interface runs XDP in one mode at a time; ${occupied}`,
    EOPNOTSUPP:
      mode === "native" ? 'the driver has no native XDP: use mode "skb"' : "the interface takes no XDP program",
    EINVAL: "no such interface in this network namespace, or not an XDP program for it",
    ERANGE: "the MTU is too large for one buffer: lower it, or load the program with frags",
    ENOSPC: "the interface needs at least as many receive queues as its peer has transmit queues",
  };
}

/** "program 97 "redirect" is attached in native mode", as far as it can be known. */
function describeAttached(ifindex: number): string {
  try {
    const found = attachedXdp(ifindex).map(
      ({ mode, programId }) => `program ${programId}${programName(programId)} is attached in ${mode} mode`,
    );
    if (found.length > 0) return found.join(", ");
  } catch (error) {
    if (!(error instanceof SysError)) throw error;
  }
  return "another program is attached";
}

function programName(id: number): string {
  const fd = bpf("BPF_PROG_GET_FD_BY_ID", new Attr().u32(BY_ID.start_id, id));
  if (fd < 0) return "";
  try {
    return ` "${programInfo(fd).name}"`;
  } finally {
    sys.close(fd);
  }
}

/** What the kernel says of the link behind a descriptor. */
export function linkInfo(fd: number): LinkInfo {
  const info = new DataView(new ArrayBuffer(INFO_SIZE));
  const attr = new Attr().u32(INFO.bpf_fd, fd).u32(INFO.info_len, INFO_SIZE).pointer(INFO.info, info);
  checkBpf(bpf("BPF_OBJ_GET_INFO_BY_FD", attr), "BPF_OBJ_GET_INFO_BY_FD");
  return {
    type: info.getUint32(LINK_INFO.type, true),
    id: info.getUint32(LINK_INFO.id, true),
    programId: info.getUint32(LINK_INFO.prog_id, true),
    ifindex: info.getUint32(LINK_INFO.xdp_ifindex, true),
  };
}
