/** What happens to the interface of an engine with addresses of its own, for the thread of its host protocols. */
import { ERRNO, SysError } from "af-xdp-bindings";
import { IFF_LOWER_UP, IFF_UP } from "./host/rtnetlink-uapi.ts";
import { CHANGED_LINKS, HostWatcher } from "./host/watcher.ts";
import { type KernelWiring, openNetns } from "./wiring.ts";

/** Switched on, and with a carrier. */
const UP = IFF_UP | IFF_LOWER_UP;

/** What follow() says. */
export const LINK_SAME = 0;
/** The link has a carrier again. */
export const LINK_RECONNECTED = 1;
/** It was switched off and is on again, and has a carrier. */
export const LINK_SWITCHED_ON = 2;

export class HostLinkWatch {
  private readonly watcher: HostWatcher;
  private readonly link: KernelWiring["link"];
  /** Those of UP that the link was without since it last had both. */
  private lost: number;

  constructor(way: KernelWiring) {
    const netns = openNetns(way.netnsPath);
    this.watcher = netns.run(() => new HostWatcher());
    netns.close();
    this.link = way.link;
    this.lost = UP & ~(this.watcher.link(this.link.ifindex)?.flags ?? 0);
  }

  /** Readable when there is something to follow. */
  get fd(): number {
    return this.watcher.fd;
  }

  /**
   * Takes what has happened; says LINK_... Throws SysError ENODEV: the link is gone, or has another MAC address, which others would
   * have to be told of.
   */
  follow(): number {
    if ((this.watcher.process() & CHANGED_LINKS) === 0) return LINK_SAME;
    const { ifindex } = this.link;
    const now = this.watcher.link(ifindex);
    const hint =
      now === null
        ? "it was deleted, or moved to another namespace, while the engine served it: start again when it is back"
        : "its MAC address was changed while the engine had addresses of its own on it: start again";
    if (now === null || now.mac.join() !== this.link.mac.join()) {
      throw new SysError(ERRNO.ENODEV, `interface ${this.link.name}`, hint);
    }
    const lost = this.lost | (this.watcher.lostFlags(ifindex) & UP);
    const isBack = lost !== 0 && (now.flags & UP) === UP;
    this.lost = isBack ? 0 : lost;
    if (!isBack) return LINK_SAME;
    return (lost & IFF_UP) === 0 ? LINK_RECONNECTED : LINK_SWITCHED_ON;
  }

  close(): void {
    this.watcher.close();
  }
}
