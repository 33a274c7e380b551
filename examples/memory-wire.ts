/**
 * Two engines on one wire in memory: no privilege, no interface, any machine. One asks, the other answers.
 *
 *     npx bun examples/memory-wire.ts
 */
import { createMemoryWire, Engine, type Side } from "lcore";

const wire = createMemoryWire();
const ends = [
  { address: "198.18.0.1", mac: Uint8Array.of(2, 0, 0, 0, 0, 1) },
  { address: "198.18.0.2", mac: Uint8Array.of(2, 0, 0, 0, 0, 2) },
];

/** An engine at one end. There is no ARP on the wire: each end is told who the other one is. */
function start(side: Side): Promise<Engine> {
  const { address, mac } = ends[side];
  return Engine.start({
    memory: { wire, side, mac, addresses: [`${address}/24`], neighbours: [ends[1 - side]] },
  });
}

const server = await start(0);
const client = await start(1);

const echo = server.udp({ port: 9000 });
echo.onDatagram = (datagram) => {
  datagram.reply();
};

const socket = client.udp();
socket.connect(9000, ends[0].address);
for (const question of ["one", "two", "three"]) {
  const sentAt = performance.now();
  // -EAGAIN right after the start: the lcore has not lent this thread frames to send from yet.
  while (socket.send(question) < 0) await Bun.sleep(1);
  const answer = await socket.receive();
  console.log(`${answer.text()} from ${answer.sourceAddress} after ${(performance.now() - sentAt).toFixed(3)} ms`);
  answer.release();
}
await client.close();
await server.close();
