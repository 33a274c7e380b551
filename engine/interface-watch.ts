/**
 * Looks at what others may do to a served interface without the kernel telling of it: the program taken off, queues
 * added. The engine serves on through the kernel, slower, and whoever started it hears of it once.
 */
import { Link, SysError } from "af-xdp-bindings";
import type { Ethtool } from "./host/ethtool.ts";
import type { Link as HostLink } from "./host/rtnetlink-decode.ts";
import { activeQueues } from "./interface.ts";

export class InterfaceWatch {
  private readonly ethtool: Ethtool;
  private readonly served: number;
  private readonly notice: (text: string) => void;
  private queues = 0;
  private attached = true;

  /**
   * @param ethtool of the interface's namespace
   * @param served queues that lcores drive
   * @param notice hears of each change, a line each
   */
  constructor(ethtool: Ethtool, served: number, notice: (text: string) => void) {
    this.ethtool = ethtool;
    this.served = served;
    this.notice = notice;
  }

  /** @param linkFd descriptor of the program's BPF link, -1 while there is none */
  look(link: HostLink, linkFd: number): void {
    this.lookAtQueues(link);
    if (linkFd >= 0 && this.attached) this.lookAtProgram(link, linkFd);
  }

  close(): void {
    this.ethtool.close();
  }

  private lookAtQueues(link: HostLink): void {
    const queues = activeQueues(this.ethtool, link);
    const before = this.queues;
    this.queues = queues;
    if (before === 0 || queues <= before) return;
    this.notice(
      `${link.name} has ${queues} receive queues now, of which lcores drive ${this.served}: what comes on the others goes through the kernel, slower: start again`,
    );
  }

  private lookAtProgram({ name }: HostLink, linkFd: number): void {
    try {
      this.attached = new Link(linkFd).info.ifindex !== 0;
    } catch (error) {
      // Closed between: the engine is ending.
      if (error instanceof SysError) return;
      throw error;
    }
    if (!this.attached)
      this.notice(`the engine's XDP program was taken off ${name}: all goes through the kernel, slower: start again`);
  }
}
