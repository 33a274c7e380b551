/** BPF links: an XDP program attached to an interface for as long as a descriptor or pin holds the link. */
import * as sys from "../sys.ts";
import { Attr, bpf, checkBpf } from "./call.ts";
import { getObject, pinObject } from "./pin.ts";
import type { Program } from "./program.ts";
import {
  BPF_F_REPLACE,
  BPF_XDP,
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
  return new Link(checkBpf(bpf("BPF_LINK_CREATE", attr), "BPF_LINK_CREATE", {}, `ifindex ${ifindex}, ${mode} mode`));
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
