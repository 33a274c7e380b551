/** Who is still sent to by the FIB stays confirmed, and who is not is left alone: an lcore beside the host protocols. */
import { expect, test } from "bun:test";
import { HostStack } from "../../engine/host-stack.ts";
import { UdpSocket } from "../../sockets/udp-socket.ts";
import { IFINDEX, Rig } from "../sockets/rig.ts";
import { MAC_A, MAC_B } from "../support/frames.ts";
import { arp, describe } from "./messages.ts";

const PEER = "198.18.0.2";
const OWN = "198.18.0.1";
const ALONE = `02000000000b < who has ${PEER}, tell ${OWN}`;
const STEP_MS = 250;

/** Virtual time; the neighbour answers every question. */
function stage() {
  const rig = new Rig({ lcores: 2, threads: 0, hostThread: 1 });
  const [lcore, thread] = rig.lcores;
  const own = { ifindex: IFINDEX, mac: MAC_A, mtu: 1500, partialChecksums: false, gateways: [], dad: false };
  const host = new HostStack({ ...own, addresses: [`${OWN}/24`] }, thread.stack, rig.fib, 1, 0, () => {});
  lcore.stack.useHost(1);
  const socket = UdpSocket.open(lcore.stack, {});
  let now = 0;
  const log: { at: number; text: string }[] = [];
  const turn = (): void => {
    for (let frames = rig.settle(); frames.length > 0; frames = rig.settle()) {
      for (const frame of frames) {
        const text = describe(frame);
        log.push({ at: now, text });
        if (!text.includes(`who has ${PEER}`)) continue;
        rig.input([arp({ operation: "reply", sender: PEER, senderMac: MAC_B, target: OWN, to: MAC_A })]);
      }
    }
  };
  const pass = (seconds: number, eachSecond: () => void): { at: number; text: string }[] => {
    log.length = 0;
    for (let i = 0; i < (seconds * 1000) / STEP_MS; i++, now += STEP_MS) {
      if ((i * STEP_MS) % 1000 === 0) eachSecond();
      host.tick(now);
      turn();
    }
    return log;
  };
  return { pass, rig, send: (): void => void socket.send("on and on", 9000, PEER) };
}

const questions = (log: { at: number; text: string }[]) => log.filter(({ text }) => text === ALONE);

test("in use: confirmed every half to one and a half of 30 s, and no datagram takes the long way", () => {
  const { pass, rig, send } = stage();
  pass(5, send);
  const before = rig.counter("HostFrames");
  const log = pass(600, send);
  expect(log.filter(({ text }) => text.includes("protocol 17"))).toHaveLength(600);
  const asked = questions(log).map(({ at }) => at);
  const pauses = asked.slice(1).map((at, i) => (at - asked[i]) / 1000);
  // 15 to 45 s of REACHABLE, 5 of DELAY.
  expect(Math.min(...pauses)).toBeGreaterThanOrEqual(20);
  expect(Math.max(...pauses)).toBeLessThanOrEqual(51);
  // The answers, and nothing else.
  expect(rig.counter("HostFrames") - before).toBe(asked.length);
});

test("out of use: left alone within two minutes; the next datagram goes the long way, at once", () => {
  const { pass, rig, send } = stage();
  pass(60, send);
  pass(120, () => {});
  expect(pass(300, () => {})).toEqual([]);
  const before = rig.counter("HostFrames");
  send();
  const log = pass(1, () => {});
  expect(log.map(({ text }) => text)).toEqual([expect.stringContaining(`> ${PEER} protocol 17`)]);
  expect(rig.counter("HostFrames") - before).toBe(1);
});
