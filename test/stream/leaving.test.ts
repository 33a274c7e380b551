/** What an lcore does for TCP sockets of a thread in the very turn in which the thread leaves: driven by hand, a turn at a time. */
import { describe, expect, test } from "bun:test";
import { M_KIND, MSG_BYE } from "../../sockets/message.ts";
import { closeTcpRecord } from "../../sockets/stream/tcp-record.ts";
import type { ThreadEndpoint } from "../../sockets/thread.ts";
import { TCP_RST } from "../../sockets/wire/tcp.ts";
import type { Rig } from "../sockets/rig.ts";
import type { Segment } from "../tcp/segments.ts";
import { handshake, read, tcpRig } from "./by-turns.ts";

/** What the peer is sent in a turn in which it has sent `frames`, `leave` being called before the lcore looks for messages. */
function turn(rig: Rig, frames: Uint8Array[], leave: () => void): Segment[] {
  const { stack, ports } = rig.lcores[0];
  stack.control();
  rig.input(frames);
  leave();
  stack.poll();
  stack.flush();
  stack.clock(performance.now());
  return ports[0].sent.splice(0).map(read);
}

describe("the peer is reset, and nothing is left", () => {
  test("the handshake ends in the turn in which the thread leaves", () => {
    const { rig, last } = handshake();
    const sent = turn(rig, last, () => rig.threads[0].close());
    expect(sent.filter(({ flags }) => (flags & TCP_RST) !== 0)).toHaveLength(1);
    expect(rig.table.open).toBe(0);
  });

  test("… in which another thread says of it that it has ended", () => {
    const { rig, last } = handshake();
    const { mesh } = rig.shared;
    const [thread] = rig.threads;
    const sent = turn(rig, last, () => {
      // As engine/lost-threads.ts: its sockets are closed, then the lcores hear of it.
      for (let id = 0; id < rig.table.highWater; id++) closeTcpRecord(thread, id);
      thread.flush();
      mesh.beginLeaving(thread.thread, 1);
      const ring = mesh.producer(thread.thread, 0);
      ring.words[ring.claim() + M_KIND] = MSG_BYE;
      ring.publish();
    });
    expect(sent.filter(({ flags }) => (flags & TCP_RST) !== 0)).toHaveLength(1);
  });

  test("it ends in the turn before: the connection is in the ring to the thread", () => {
    const { rig, last } = handshake();
    rig.turn(last);
    const sent = turn(rig, [], () => rig.threads[0].close());
    expect(sent.filter(({ flags }) => (flags & TCP_RST) !== 0)).toHaveLength(1);
    expect(rig.table.open).toBe(0);
  });
});

test("what an lcore answers to a thread that has left is not taken for an answer to the next one in its place", () => {
  const rig = tcpRig();
  const connect = (thread: ThreadEndpoint, port: number) => thread.connect({ address: "198.18.0.2", port }, {});
  const first = rig.threads[0];
  connect(first, 1);
  first.flush();
  first.close();
  rig.turn();
  const second = rig.joinThread();
  expect(second.thread).toBe(first.thread);
  const socket = connect(second, 2);
  second.poll();
  expect(socket.id).toBe(-1);
  rig.turn();
  second.poll();
  expect(socket.id).toBeGreaterThanOrEqual(0);
  expect(socket.remoteAddress.port).toBe(2);
});
