/**
 * TCP sockets of a thread before they are connected: records of a Tcp of the thread's own, which sends nothing. What they are
 * asked is so answered by the core itself, and their options become words that a connection's record begins with.
 */

import type { SocketTable } from "../table.ts";
import { close, openSocket } from "../tcp/calls.ts";
import type { TcpConfig } from "../tcp/config.ts";
import { Tcp, type TcpSink } from "../tcp/core.ts";
import { NO_FILTERS, type SegmentFilters } from "../tcp/filter.ts";
import { TCB_WORDS } from "../tcp/tcb.ts";
import { FrameViews } from "../wire/views.ts";
import { optionDifferences } from "./option-words.ts";

/** Drafts at a time: most are connected, or listen, within the turn in which they were made. */
const DRAFTS_MAX = 16_384;
/** Records that are none of the thread's sockets: fresh4, fresh6, trial. */
const OWN = 3;

class SilentSink implements TcpSink {
  readonly views = new FrameViews(new Uint8Array(4));

  frame(): number {
    return -1;
  }

  send(): void {}

  mtu(): number {
    return 1500;
  }
}

/** A draft's filter sees nothing, and is held in the store by a use of the draft's own. */
const held = (table: SocketTable): SegmentFilters => ({
  ...NO_FILTERS,
  drop: (filter) => table.mutex.hold(() => table.releaseApart(filter)),
});

export class Drafts {
  readonly tcp: Tcp;
  /** Records as they are made, of IPv4 and of IPv6. */
  private readonly fresh4: number;
  private readonly fresh6: number;
  /** On which options for connections are tried. */
  readonly trial: number;

  /** @param config of the lcores' Tcps: limits and defaults of options are the same */
  constructor(config: TcpConfig, table: SocketTable) {
    const { chunkBytes } = config;
    const few = { bufferBytes: chunkBytes * 4, pressureBytes: chunkBytes, segments: 16, ranges: 16 };
    const limits = { ...config, ...few, connections: Math.min(config.connections, DRAFTS_MAX) + OWN };
    this.tcp = new Tcp(limits, new SilentSink(), new Int32Array(4), 1, 0, { filters: held(table) });
    this.fresh4 = openSocket(this.tcp, false);
    this.fresh6 = openSocket(this.tcp, true);
    this.trial = openSocket(this.tcp, false);
  }

  /** A draft's id, or -ENFILE. */
  open(v6: boolean): number {
    return openSocket(this.tcp, v6);
  }

  close(draft: number): void {
    close(this.tcp, draft);
  }

  /** Pairs of word and value by which a draft's options are not those of a new socket. */
  differences(draft: number, v6: boolean): number[] {
    const fresh = v6 ? this.fresh6 : this.fresh4;
    return optionDifferences(this.tcp.w, draft * TCB_WORDS, fresh * TCB_WORDS);
  }
}
