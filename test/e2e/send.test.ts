/** Ways to send, between two engines over a memory wire: copied, in batches, from a reserved frame, and when there is no room. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { ERRNO, errnoName } from "af-xdp-bindings";
import { createMemoryWire, Engine, type Side, type UdpSocket } from "lcore";
import { getAffinity } from "../../engine/host/affinity.ts";
import { until } from "../support/kernel-udp.ts";

const MACS = [Uint8Array.of(2, 0, 0, 0, 0, 1), Uint8Array.of(2, 0, 0, 0, 0, 2)];
const ADDRESSES = ["198.18.0.1", "198.18.0.2"];
const wire = createMemoryWire();
const engines: Engine[] = [];
const cpu = getAffinity(0)[0];
let from: UdpSocket;
let to: UdpSocket;

async function start(side: Side): Promise<Engine> {
  const other = 1 - side;
  return Engine.start({
    memory: {
      wire,
      side,
      mac: MACS[side],
      addresses: [`${ADDRESSES[side]}/24`],
      neighbours: [{ address: ADDRESSES[other], mac: MACS[other] }],
    },
    cpus: [cpu],
    isolate: false,
  });
}

beforeAll(async () => {
  engines.push(await start(0), await start(1));
  from = engines[0].udp({ port: 1000 });
  to = engines[1].udp({ port: 2000, receiveBuffer: 1 << 22 });
});

afterAll(async () => {
  for (const engine of engines) await engine.close();
});

async function received(): Promise<string> {
  const datagram = await to.receive();
  const text = datagram.text();
  datagram.release();
  return text;
}

/** Until nothing is under way: what a full wire drops is the next test's otherwise. */
async function quiet(): Promise<void> {
  const lag = (of: Engine, at: Engine): number => {
    const { TxFrames, TxDropped } = of.counters();
    return TxFrames - TxDropped - at.counters().RxFrames;
  };
  await until("an empty wire", () => {
    const [a, b] = engines;
    return lag(a, b) === 0 && lag(b, a) === 0;
  });
}

test("the first send of a thread that has just joined finds a frame", async () => {
  expect(from.send("first", 2000, ADDRESSES[1])).toBe(5);
  expect(await received()).toBe("first");
});

test("a batch arrives whole and in order", async () => {
  const payloads = ["a", "bb", "", "dddd"].map((text) => new TextEncoder().encode(text));
  expect(from.sendBatch(payloads, 2000, ADDRESSES[1])).toBe(4);
  for (const payload of payloads) expect(await received()).toBe(new TextDecoder().decode(payload));
});

test("a batch of many times what is lent leaves whole, and calls no handler on its way", async () => {
  const before = engines[0].counters();
  let called = 0;
  const answered = engines[0].udp({ port: 1001 });
  answered.onDatagram = () => called++;
  const echo = engines[1].udp({ port: 2001 });
  echo.onDatagram = (datagram) => datagram.reply();
  const payloads = Array.from({ length: 5000 }, (_, i) => new TextEncoder().encode(`${i}`));
  expect(answered.sendBatch(payloads, 2001, ADDRESSES[1])).toBe(5000);
  expect(called).toBe(0);
  const left = (): number => {
    const { UdpOutDatagrams, UdpSndbufErrors } = engines[0].counters();
    // What the lcore found no room for on the wire it has counted.
    return UdpOutDatagrams - before.UdpOutDatagrams + (UdpSndbufErrors - before.UdpSndbufErrors);
  };
  await until("the datagrams out", () => left() >= 5000);
  await until("an answer", () => called > 0);
  echo.close();
  answered.close();
  await quiet();
});

test("a batch leaves whole though others keep the lcore from its CPU", async () => {
  const loop = ["taskset", "-c", `${cpu}`, "sh", "-c", "while :; do :; done"];
  const loops = Array.from({ length: 12 }, () => Bun.spawn(loop));
  try {
    const payloads = Array.from({ length: 1000 }, () => Uint8Array.of(1));
    expect(from.sendBatch(payloads, 2002, ADDRESSES[1])).toBe(1000);
  } finally {
    for (const each of loops) each.kill();
  }
  await quiet();
});

test("a reserved frame is sent from in place", async () => {
  const frame = from.reserve();
  if (frame === null) throw new Error("no frame");
  expect(frame.room).toBeGreaterThanOrEqual(1472);
  new TextEncoder().encodeInto("in place", frame.memory.subarray(frame.offset, frame.offset + frame.room));
  expect(frame.send(8, 2000, ADDRESSES[1])).toBe(8);
  expect(await received()).toBe("in place");
  expect(frame.send(8, 2000, ADDRESSES[1])).toBe(-ERRNO.EINVAL);
});

test("a reserved frame refused or cancelled is given back", () => {
  // Far more often than there are frames.
  for (let i = 0; i < 5000; i++) {
    const frame = from.reserve();
    if (frame === null) throw new Error(`no frame left after ${i}`);
    if (i % 2 === 0) frame.cancel();
    else expect(frame.send(1)).toBe(-ERRNO.EDESTADDRREQ);
  }
  const frame = from.reserve();
  expect(frame?.send((frame?.room ?? 0) + 1, 2000, ADDRESSES[1])).toBe(-ERRNO.EMSGSIZE);
  frame?.cancel();
});

test("without room a send says EAGAIN, and writable() tells when to go on; nothing is lost", async () => {
  const total = 3000;
  // More than the frames lent, so that sends are refused; fewer than the wire's 512 slots, for a full wire drops.
  const window = 400;
  let refused = 0;
  let got = 0;
  const reader = (async () => {
    for (; got < total; got++) expect(await received()).toBe(String(got));
  })();
  for (let i = 0; i < total; i++) {
    let result = from.send(String(i), 2000, ADDRESSES[1]);
    while (result === -ERRNO.EAGAIN) {
      refused++;
      await from.writable();
      result = from.send(String(i), 2000, ADDRESSES[1]);
    }
    expect(result < 0 ? errnoName(-result) : "sent").toBe("sent");
    while (i - got >= window) await Bun.sleep(1);
  }
  await reader;
  expect(refused).toBeGreaterThan(0);
}, 20_000);

test("what fits no frame has no kernel to go to on a memory wire", () => {
  expect(from.send(new Uint8Array(5000), 2000, ADDRESSES[1])).toBe(-ERRNO.EMSGSIZE);
});
