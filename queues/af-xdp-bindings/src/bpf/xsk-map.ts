/** XSKMAP: where an XDP program finds the AF_XDP socket of a queue. */
import { BpfMap, createMapFd } from "./map.ts";
import { getObject } from "./pin.ts";
import { BPF_ANY, MAP_TYPE } from "./uapi.ts";

/** Queue number to XSK. The kernel drops an entry by itself when its socket closes. */
export class XskMap extends BpfMap {
  /** Takes over a descriptor, also one from outside (a pin, SCM_RIGHTS); throws if it is not an XSKMAP's. */
  constructor(fd: number) {
    super(fd);
    if (this.info.type !== MAP_TYPE.BPF_MAP_TYPE_XSKMAP) {
      throw new TypeError(`descriptor ${fd} is a map of type ${this.info.type}, not an XSKMAP`);
    }
  }

  /** Room for `queues` queues, numbered from 0. */
  static create(queues: number, name = "xsks"): XskMap {
    return new XskMap(createMapFd({ type: "BPF_MAP_TYPE_XSKMAP", keySize: 4, valueSize: 4, maxEntries: queues, name }));
  }

  static override open(path: string): XskMap {
    return new XskMap(getObject(path));
  }

  /** Puts the socket at its queue. The socket must be bound to that very queue, or redirection to it fails. */
  set(queue: number, xskFd: number, flags = BPF_ANY): void {
    this.update(u32(queue), u32(xskFd), flags);
  }

  /** From now on frames for the queue get the program's fallback action. The kernel does not tell if one was there. */
  remove(queue: number): void {
    this.delete(u32(queue));
  }
}

/** A key or value of one u32, in host order. */
export function u32(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, value, true);
  return bytes;
}
