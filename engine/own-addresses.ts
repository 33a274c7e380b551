/** What the thread of the host protocols tells of the engine's own addresses, on the thread that started the engine. */
import { ERRNO, SysError } from "af-xdp-bindings";
import { formatIp, ip } from "../sockets/wire/address.ts";
import type { FromThread } from "./protocol.ts";

export class OwnAddresses {
  /** Resolves when no address is checked for other users any more: with those that are used, as text. */
  readonly settled: Promise<string[]>;
  private settle: (addresses: string[]) => void = () => {};
  private readonly notice: (text: string) => void;
  /** Stations that have addresses of ours, the first one seen of each. */
  private readonly others = new Map<string, string>();

  /** @param notice hears of conflicts, and what else the thread has to say, a line each */
  constructor(notice: (text: string) => void) {
    this.notice = notice;
    this.settled = new Promise((resolve) => {
      this.settle = resolve;
    });
  }

  /** A message of the thread. */
  hear(message: FromThread): void {
    if (message.type === "settled") this.settle(message.addresses);
    if (message.type === "notice") this.notice(message.text);
    if (message.type !== "conflict") return;
    const { address, lost, mac } = message;
    this.others.set(address, mac);
    this.notice(`${address}: the station ${mac} has it, too; ${lost ? "it is not used" : "it is kept"}`);
  }

  /**
   * Waits until addresses may be used. Throws SysError EADDRINUSE when none of those that were asked for is left.
   * @param wanted with prefix lengths
   * @param ended resolves when a thread has ended
   */
  async checked(wanted: readonly string[], ended: Promise<unknown>): Promise<void> {
    const used = await Promise.race([this.settled, ended.then(() => null)]);
    const names = wanted.map((text) => formatIp(ip(text.split("/")[0])));
    if (used === null || used.some((address) => names.includes(address))) return;
    const others = [...this.others].map(([address, mac]) => `${address} is the station ${mac}'s`);
    throw new SysError(ERRNO.EADDRINUSE, "own addresses", others.join(", "));
  }
}
