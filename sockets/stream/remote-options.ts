/** Options of connections on lcores: set by message once they are known to be valid, read from the record. */
import { ERRNO } from "af-xdp-bindings";
import type { RingProducer } from "../../queues/ring.ts";
import { getOption, OPTIONS, setOption } from "../tcp/sockopts.ts";
import type { Drafts } from "./drafts.ts";
import type { RemoteConnection } from "./remote-connection.ts";

export class RemoteOptions {
  private readonly drafts: Drafts;
  private readonly rings: readonly RingProducer[];

  constructor(drafts: Drafts, rings: readonly RingProducer[]) {
    this.drafts = drafts;
    this.rings = rings;
  }

  /** Tries an option on a record of the thread's own and remembers what it makes of it. 0: the lcore is to be told; or -errno. */
  set(connection: RemoteConnection, option: number, value: number): number {
    // Only without a connection can the window be left to the buffer again.
    if (option === OPTIONS.TCP_WINDOW_CLAMP && value === 0) return -ERRNO.EINVAL;
    const { tcp, trial } = this.drafts;
    const result = setOption(tcp, trial, option, value);
    if (result < 0) return result;
    if (option === OPTIONS.SO_OOBINLINE) connection.oobInline = value !== 0;
    if (option === OPTIONS.TCP_NOTSENT_LOWAT) connection.notSentLow = value;
    // The segment size is what both ends and the path make of it.
    if (option === OPTIONS.TCP_MAXSEG) return 0;
    connection.options ??= new Map();
    connection.options.set(option, getOption(tcp, trial, option));
    return 0;
  }

  /** An option as it is, or as it will be when the lcore has heard of it. */
  get(connection: RemoteConnection, option: number): number {
    if (option === OPTIONS.TCP_INQ) return connection.pieces.bytes;
    if (connection.options !== null) {
      if (this.rings[connection.lcore].isTaken(connection.optionsNumber)) connection.options = null;
      const set = connection.options?.get(option);
      if (set !== undefined) return set;
    }
    return getOption({ w: connection.w, config: this.drafts.tcp.config }, connection.id, option);
  }
}
