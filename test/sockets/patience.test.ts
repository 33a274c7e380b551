/** How long a thread waits for an lcore: by the lcore's turns where it has any, by the clock where it has none. */
import { expect, test } from "bun:test";
import { Mesh } from "../../sockets/mesh.ts";
import { SO_SNDTIMEO, SOL_SOCKET } from "../../sockets/options.ts";
import { LATE_MS, Patience, VAIN_LOOKS } from "../../sockets/patience.ts";
import { UdpSocket } from "../../sockets/udp-socket.ts";
import { Rig } from "./rig.ts";

const FOREVER = Number.POSITIVE_INFINITY;

/** Times that it pauses while `between` happens after each; it must end before `most`. */
function pauses(patience: Patience, between: (count: number) => number, most = 100_000): number {
  let count = 0;
  for (let given = 0; patience.pauses(given); given = between(count)) {
    if (++count === most) throw new Error(`${most} pauses and no end`);
  }
  return count;
}

test("an lcore that takes turns and gives nothing has nothing to give", () => {
  const mesh = Mesh.create(2, 1, 64);
  const rung = mesh.bellCount(1);
  const between = (): number => {
    mesh.turn(1);
    return 0;
  };
  expect(pauses(new Patience(mesh, 1, 0, FOREVER), between)).toBe(VAIN_LOOKS);
  // Only the look before the first turn had reason to wake it.
  expect(mesh.bellCount(1)).toBe(rung + 1);
});

test("whatever it gives begins the count anew", () => {
  const mesh = Mesh.create(1, 1, 64);
  const between = (count: number): number => {
    mesh.turn(0);
    return Math.min(Math.floor(count / 100), 5);
  };
  expect(pauses(new Patience(mesh, 0, 0, FOREVER), between)).toBe(500 + VAIN_LOOKS);
});

test("an lcore without a turn is woken and waited for, whatever the clock says, but not for ever", () => {
  const mesh = Mesh.create(1, 1, 64);
  const rung = mesh.bellCount(0);
  const start = performance.now();
  const between = (): number => {
    if (mesh.turns(0) === 0 && performance.now() - start >= LATE_MS / 2) mesh.turn(0);
    return 0;
  };
  pauses(new Patience(mesh, 0, 0, FOREVER), between);
  expect(mesh.turns(0)).toBe(1);
  expect(performance.now() - start).toBeGreaterThanOrEqual(1.5 * LATE_MS);
  expect(mesh.bellCount(0)).toBeGreaterThan(rung);
});

test("a limit and a stop end it", () => {
  const mesh = Mesh.create(1, 1, 64);
  expect(new Patience(mesh, 0, 0, 0).pauses(0)).toBe(false);
  const start = performance.now();
  pauses(new Patience(mesh, 0, 0, 5), () => 0);
  expect(performance.now() - start).toBeGreaterThanOrEqual(5);
  expect(new Patience(mesh, 0, 0, FOREVER).pauses(0)).toBe(true);
  mesh.stop();
  expect(new Patience(mesh, 0, 0, FOREVER).pauses(0)).toBe(false);
});

test("SO_SNDTIMEO bounds a batch's wait for an lcore that does not run", () => {
  const rig = new Rig();
  const socket = UdpSocket.open(rig.threads[0], { port: 9000 });
  const payloads = Array.from({ length: 300 }, () => Uint8Array.of(1));
  socket.setsockopt(SOL_SOCKET, SO_SNDTIMEO, timeval(-1));
  const lent = socket.sendBatch(payloads, 53, "198.18.0.2");
  expect(lent).toBeGreaterThan(0);
  expect(lent).toBeLessThan(300);
  const rung = rig.shared.mesh.bellCount(0);
  expect(socket.awaitRoom()).toBe(false);
  // Who waits for nothing wakes nobody.
  expect(rig.shared.mesh.bellCount(0)).toBe(rung);
  socket.setsockopt(SOL_SOCKET, SO_SNDTIMEO, timeval(0, 30_000));
  const start = performance.now();
  expect(socket.awaitRoom()).toBe(false);
  expect(performance.now() - start).toBeGreaterThanOrEqual(30);
  rig.settle();
  expect(socket.awaitRoom()).toBe(true);
});

/** struct timeval. */
function timeval(seconds: number, microseconds = 0): Uint8Array {
  return new Uint8Array(BigInt64Array.of(BigInt(seconds), BigInt(microseconds)).buffer);
}
