/**
 * Looks whether queues were added to a served interface, of which the kernel does not tell. The engine serves them
 * through the kernel, slower, and whoever started it hears of it once.
 */
import type { Ethtool } from "./host/ethtool.ts";
import type { Link as HostLink } from "./host/rtnetlink-decode.ts";
import { activeQueues } from "./interface.ts";

export class InterfaceWatch {
  private readonly ethtool: Ethtool;
  private readonly served: number;
  private readonly notice: (text: string) => void;
  private queues = 0;

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

  look(link: HostLink): void {
    const queues = activeQueues(this.ethtool, link);
    const before = this.queues;
    this.queues = queues;
    if (before === 0 || queues <= before) return;
    this.notice(
      `${link.name} has ${queues} receive queues now, of which lcores drive ${this.served}: what comes on the others goes through the kernel, slower: start again`,
    );
  }

  close(): void {
    this.ethtool.close();
  }
}
