import type { CompletionRing } from "./completion-ring.ts";
import type { FillRing } from "./fill-ring.ts";
import type { SharedArea } from "./memory.ts";

/** Fill and completion ring of a (UMEM, interface, queue), shared by every socket bound there. */
export class QueueRings {
  readonly fill: FillRing;
  readonly completion: CompletionRing;
  private readonly areas: readonly SharedArea[];
  private users = 1;

  /** Starts with one user. */
  constructor(fill: FillRing, completion: CompletionRing, areas: readonly SharedArea[]) {
    this.fill = fill;
    this.completion = completion;
    this.areas = areas;
  }

  /** Adds a user. */
  share(): this {
    this.users++;
    return this;
  }

  /** Removes a user; the last one takes the memory back from the kernel. */
  release(): void {
    if (--this.users > 0) return;
    for (const area of this.areas) area.detach();
    this.fill.detach();
    this.completion.detach();
  }
}
