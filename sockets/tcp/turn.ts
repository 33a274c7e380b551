/** The end of a turn: after each burst of segments, and what the applications have made of it (TcpPlaces.turns). */
import { acknowledgeTurn } from "./ack-policy.ts";
import type { Tcp } from "./core.ts";
import { pushTurn } from "./output.ts";

/** Sends what acknowledgments have let out, then acknowledges what that has not taken along. */
export function endTurn(t: Tcp): void {
  if (t.pushTurnCount > 0) pushTurn(t);
  if (t.ackTurnCount > 0) acknowledgeTurn(t);
}
