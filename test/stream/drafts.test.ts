/** TCP sockets of a thread before they are connected. */
import { expect, test } from "bun:test";
import { ERRNO } from "af-xdp-bindings";
import { Drafts } from "../../sockets/stream/drafts.ts";
import { SocketTable } from "../../sockets/table.ts";
import { TCP_DEFAULTS } from "../../sockets/tcp/config.ts";

test.each([1, 2, 3])("where an lcore may have %d connections, a thread may have as many drafts", (connections) => {
  const drafts = new Drafts({ ...TCP_DEFAULTS, connections }, SocketTable.create(16, 1));
  const opened = Array.from({ length: connections }, (_, i) => drafts.open(i % 2 === 1));
  expect(Math.min(...opened)).toBeGreaterThanOrEqual(0);
  expect(drafts.open(false)).toBe(-ERRNO.ENFILE);
  drafts.close(opened[0]);
  expect(drafts.open(true)).toBe(opened[0]);
});
