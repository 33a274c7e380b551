/** Threads on an lcore's CPU are woken for a burst, not for each part of it; and none is forgotten. */
import { describe, expect, test } from "bun:test";
import type { ThreadEndpoint } from "../../sockets/thread.ts";
import { UdpSocket } from "../../sockets/udp-socket.ts";
import { udpFrame } from "../support/frames.ts";
import { Rig } from "./rig.ts";

const PORTS = [9000, 9001];

/** An lcore and two threads, each with a socket and asleep. */
function asleep(sharing: readonly boolean[]): { rig: Rig; woken: () => boolean[] } {
  const rig = new Rig({ threads: 2, frames: 4096 });
  const { stack } = rig.lcores[0];
  const { mesh } = rig.shared;
  stack.holdWakeups();
  rig.threads.forEach((thread, i) => {
    mesh.setSharesCpu(thread.thread, sharing[i]);
    UdpSocket.open(thread, { port: PORTS[i] });
  });
  rig.settle();
  for (const thread of rig.threads) announceSleep(thread);
  const before = rig.threads.map(({ thread }) => mesh.bellCount(thread));
  return { rig, woken: () => rig.threads.map(({ thread }, i) => mesh.bellCount(thread) > before[i]) };
}

function announceSleep(thread: ThreadEndpoint): void {
  // biome-ignore lint/complexity/useLiteralKeys: it is protected
  if (!thread["prepareWait"]()) throw new Error("something has come already");
}

/** What the loop does in a turn in which so many frames come for a port. */
function turn(rig: Rig, count: number, port: number): void {
  const { stack } = rig.lcores[0];
  stack.control();
  rig.input(Array.from({ length: count }, () => udpFrame({ payload: "x", port })));
  stack.poll();
  stack.flush();
  stack.wakeHeld(count);
}

describe("wakeups", () => {
  test("of a thread on a CPU of its own: with the first datagram of a burst", () => {
    const { rig, woken } = asleep([false, true]);
    turn(rig, 64, PORTS[0]);
    expect(woken()).toEqual([true, false]);
  });

  test("of a thread on the lcore's: at once for a few, for many when no more come", () => {
    const few = asleep([true, true]);
    turn(few.rig, 3, PORTS[0]);
    expect(few.woken()).toEqual([true, false]);

    const many = asleep([true, true]);
    turn(many.rig, 64, PORTS[0]);
    turn(many.rig, 64, PORTS[0]);
    expect(many.woken()).toEqual([false, false]);
    turn(many.rig, 0, PORTS[0]);
    expect(many.woken()).toEqual([true, false]);
  });

  test("in a load that never ends: with the 256th frame, whomever the others are for", () => {
    const { rig, woken } = asleep([true, false]);
    turn(rig, 8, PORTS[0]);
    for (let i = 0; i < 3; i++) turn(rig, 64, PORTS[1]);
    expect(woken()).toEqual([false, true]);
    turn(rig, 64, PORTS[1]);
    expect(woken()).toEqual([true, true]);
  });

  test("of all who sleep, each once, and again when they sleep again", () => {
    const { rig, woken } = asleep([true, true]);
    const { mesh } = rig.shared;
    turn(rig, 64, PORTS[0]);
    turn(rig, 64, PORTS[1]);
    expect(woken()).toEqual([false, false]);
    turn(rig, 0, PORTS[0]);
    expect(woken()).toEqual([true, true]);
    const counts = rig.threads.map(({ thread }) => mesh.bellCount(thread));
    turn(rig, 64, PORTS[0]);
    turn(rig, 0, PORTS[0]);
    expect(rig.threads.map(({ thread }) => mesh.bellCount(thread))).toEqual(counts);
    rig.settle();
    for (const thread of rig.threads) announceSleep(thread);
    turn(rig, 64, PORTS[1]);
    turn(rig, 0, PORTS[0]);
    expect(rig.threads.map(({ thread }) => mesh.bellCount(thread))).toEqual([counts[0], counts[1] + 1]);
  });
});
