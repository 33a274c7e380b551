/** What happens to the interface of an engine with addresses of its own, for the thread of its host protocols. */
import { ERRNO, SysError } from "af-xdp-bindings";
import { IFF_LOWER_UP, IFF_UP } from "./host/rtnetlink-uapi.ts";
import { CHANGED_LINKS, HostWatcher } from "./host/watcher.ts";
import { type KernelWiring, openNetns } from "./wiring.ts";

/** Switched on, and with a carrier. */
const UP = IFF_UP | IFF_LOWER_UP;

export class HostLinkWatch {
  private readonly watcher: HostWatcher;
  private readonly link: KernelWiring["link"];
  private isUp: boolean;

  constructor(way: KernelWiring) {
    const netns = openNetns(way.netnsPath);
    this.watcher = netns.run(() => new HostWatcher());
    netns.close();
    this.link = way.link;
    this.isUp = this.seesUp();
  }

  /** Readable when there is something to follow. */
  get fd(): number {
    return this.watcher.fd;
  }

  /**
   * Takes what has happened. True: the link is up after it has been down, and may be another one. Throws SysError ENODEV: it is
   * gone, or has another MAC address, which others would have to be told of.
   */
  follow(): boolean {
    if ((this.watcher.process() & CHANGED_LINKS) === 0) return false;
    const now = this.watcher.link(this.link.ifindex);
    const hint =
      now === null
        ? "it was deleted, or moved to another namespace, while the engine served it: start again when it is back"
        : "its MAC address was changed while the engine had addresses of its own on it: start again";
    if (now === null || now.mac.join() !== this.link.mac.join()) {
      throw new SysError(ERRNO.ENODEV, `interface ${this.link.name}`, hint);
    }
    const wasUp = this.isUp;
    this.isUp = this.seesUp();
    return this.isUp && !wasUp;
  }

  close(): void {
    this.watcher.close();
  }

  private seesUp(): boolean {
    const flags = this.watcher.link(this.link.ifindex)?.flags ?? 0;
    return (flags & UP) === UP;
  }
}
