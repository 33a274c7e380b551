/**
 * Socket filters of connections that live on lcores, as their thread knows them: a use of each program goes with the message that
 * names it, and is the lcore's from then on.
 */
import type { Shared } from "../shared.ts";
import type { Tcp } from "../tcp/core.ts";
import { setFilter } from "../tcp/filter.ts";
import { TCB_WORDS } from "../tcp/tcb.ts";
import { CONNECTING, type RemoteConnection } from "./remote-connection.ts";
import { CALL_FILTER } from "./tcp-messages.ts";

interface FiltersHost {
  readonly shared: Shared;
  sendNow(): void;
}

export class RemoteFilters {
  private readonly host: FiltersHost;
  /** That of the drafts. */
  private readonly core: Tcp;

  constructor(host: FiltersHost, core: Tcp) {
    this.host = host;
    this.core = core;
  }

  /** A use more, to be given away. */
  oneMore(filter: number): number {
    const { table } = this.host.shared;
    table.mutex.hold(() => table.holdApart(filter));
    return filter;
  }

  discard(filter: number): void {
    const { table } = this.host.shared;
    if (filter !== 0) table.mutex.hold(() => table.releaseApart(filter));
  }

  /** Calls that nobody will be asked for. */
  discardCalls(calls: readonly (readonly [call: number, argument: number, value: number])[]): void {
    for (const [call, filter] of calls) if (call === CALL_FILTER) this.discard(filter);
  }

  /** Notes the filter, and gives it to the draft where the connection is one. False: its lcore is to be told. */
  note(connection: RemoteConnection, filter: number): boolean {
    connection.filter = filter;
    if (connection.draft < 0 || connection.phase === CONNECTING) return false;
    this.setDraft(connection, filter);
    return true;
  }

  setDraft({ draft }: RemoteConnection, filter: number): void {
    setFilter(this.core, draft * TCB_WORDS, filter);
  }

  /** The lcore has the message before it takes another frame. */
  sendNow(): void {
    const { table } = this.host.shared;
    this.host.sendNow();
    table.mutex.hold(() => table.touch());
  }
}
