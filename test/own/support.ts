/** Engines with addresses of their own, in tests: on a wire in memory, and on an interface beside the kernel. */
import type { EngineOptions } from "../../engine/config.ts";
import { Engine } from "../../engine/engine.ts";
import type { MemoryWire, Side } from "../../queues/memory.ts";
import type { UdpSocket } from "../../sockets/udp-socket.ts";
import { type Host, makeHosts } from "../support/hosts.ts";

export const PORT = 9200;
export const OWN4 = "198.18.0.200";
export const OWN6 = "2001:db8::200";

/** What a test leaves behind, taken away the latest first. */
export class CleanUp {
  private readonly acts: (() => unknown)[] = [];

  add(act: () => unknown): void {
    this.acts.push(act);
  }

  async run(): Promise<void> {
    for (const act of this.acts.splice(0).toReversed()) await act();
  }
}

/** Bytes that no two datagrams of different length share. */
export function payload(length: number): Uint8Array {
  return Uint8Array.from({ length }, (_, i) => (i * 31 + length) & 0xff);
}

export function echo(engine: Engine, address = "::"): UdpSocket {
  const socket = engine.udp({ address, port: PORT });
  // Answers larger than a frame are copied; the others go back in place.
  socket.onDatagram = (d) => {
    if (d.length > 1400) socket.send(d.copy(), d.sourcePort, d.sourceAddress);
    else d.reply();
  };
  return socket;
}

/**
 * Asks until the answer comes: a datagram may be lost while a neighbour is asked for. Answers of another length are late
 * ones to an earlier question that was asked twice.
 */
export async function ask(socket: UdpSocket, bytes: Uint8Array, address: string): Promise<Uint8Array> {
  const answers: Uint8Array[] = [];
  socket.onDatagram = (d) => {
    if (d.length === bytes.length) answers.push(d.copy());
  };
  for (let i = 0; answers.length === 0; i++) {
    if (i === 200) throw new Error(`no answer of ${bytes.length} bytes from ${address}`);
    socket.send(bytes, PORT, address);
    for (let k = 0; k < 50 && answers.length === 0; k++) await Bun.sleep(1);
  }
  return answers[0];
}

/** An end of a wire with the addresses 198.18.0.SIDE+1 and 2001:db8::SIDE+1. */
export async function startOnWire(
  wire: MemoryWire,
  side: Side,
  cleanUp: CleanUp,
  options: Partial<EngineOptions> = {},
): Promise<Engine> {
  const addresses = [`198.18.0.${side + 1}/24`, `2001:db8::${side + 1}/64`];
  const mac = Uint8Array.of(2, 0, 0, 0, 0, side + 1);
  const engine = await Engine.start({ memory: { wire, side, mac, addresses }, ...options });
  cleanUp.add(() => engine.close());
  return engine;
}

/** The kernel on one host, on the other one's interface an engine with OWN4 and OWN6. */
export async function startOnVeth(
  cleanUp: CleanUp,
  options: Partial<EngineOptions> = {},
): Promise<{ a: Host; b: Host; engine: Engine }> {
  const pair = makeHosts();
  cleanUp.add(() => pair.close());
  const { a, b } = pair;
  const addresses = [`${OWN4}/24`, `${OWN6}/64`];
  const engine = await Engine.start({ interface: b.name, netns: b.ns.path, addresses, dad: false, ...options });
  cleanUp.add(() => engine.close());
  return { a, b, engine };
}

/** Runs a program in a host's namespace. */
export function runOn(host: Host, ...command: string[]): { exitCode: number; text: string } {
  const { exitCode, stdout, stderr } = Bun.spawnSync(["nsenter", `--net=${host.ns.path}`, ...command]);
  return { exitCode, text: `${stdout}${stderr}` };
}
