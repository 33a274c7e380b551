/**
 * The calls of socket(7) by descriptor, on an engine: two ends of a wire in memory. No privilege, any machine.
 *
 *     npx bun examples/socket-calls.ts
 */
import { AsyncCalls, constants, createMemoryWire, decodeAddress, Engine, encodeAddress, type Side } from "lcore";

const { AF_INET, POLLIN, SOCK_DGRAM } = constants;
const wire = createMemoryWire();

function start(side: Side): Promise<Engine> {
  const mac = Uint8Array.of(2, 0, 0, 0, 0, side + 1);
  return Engine.start({ memory: { wire, side, mac, addresses: [`198.18.0.${side + 1}/24`] }, dad: false });
}

const server = await start(0);
const client = await start(1);

const there = server.calls();
const listening = there.socket(AF_INET, SOCK_DGRAM, 0);
there.bind(listening, encodeAddress({ family: AF_INET, address: "0.0.0.0", port: 7 }));

const here = client.calls();
const asking = here.socket(AF_INET, SOCK_DGRAM, 0);
here.connect(asking, encodeAddress({ family: AF_INET, address: "198.18.0.1", port: 7 }));

for (const question of ["one", "two", "three"]) {
  here.write(asking, new TextEncoder().encode(question));
  // A call that waits blocks the thread, as a system call does.
  there.poll([{ fd: listening, events: POLLIN, revents: 0 }], -1);
  const from = { bytes: new Uint8Array(16), length: 16 };
  const bytes = new Uint8Array(64);
  const length = there.recvfrom(listening, bytes, 0, from);
  there.sendto(listening, bytes.subarray(0, length).toReversed(), 0, from.bytes);
  // The event loop goes on while this waits.
  const answered = await new AsyncCalls(here).recvfrom(asking, bytes);
  console.log(new TextDecoder().decode(bytes.subarray(0, answered)), "for", decodeAddress(from.bytes));
}
await client.close();
await server.close();
