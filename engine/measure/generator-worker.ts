/** The thread of a generator: opens its queues, says that it is ready, and turns until it is told to stop. */
import { type Link, PAGE_SIZE, SharedArea, Umem } from "af-xdp-bindings";
import type { Port } from "../../queues/driver.ts";
import { MemoryPort } from "../../queues/memory.ts";
import { FramePool } from "../../queues/pool.ts";
import { RSS_KEY_SYMMETRIC, rssHash, Toeplitz } from "../../queues/rss.ts";
import { XdpPort } from "../../queues/xdp.ts";
import { attachSteering } from "../interface.ts";
import { V4_ANY, V6_ANY } from "../steering/layout.ts";
import { Steering } from "../steering/program.ts";
import { openNetns } from "../wiring.ts";
import { Generator } from "./generator.ts";
import type { GeneratorStart, XdpGeneratorLink } from "./load-thread.ts";
import { runLoad } from "./load-worker.ts";

/** Each queue's fill ring takes 2048; the rest is for sending. */
const FRAMES = 16384;
const FRAME_SIZE = 2048;
const IPPROTO_UDP = 17;
interface Opened {
  readonly ports: Port[];
  close(): void;
}

function openXdp(link: XdpGeneratorLink, options: GeneratorStart["options"], pool: FramePool): Opened {
  const netns = openNetns(link.netns ?? null);
  const steering = Steering.load({ mac: options.sourceMac, queues: Math.max(...link.queues) + 1 });
  const umem = new Umem({ chunks: FRAMES, chunkSize: FRAME_SIZE, mode: link.mode === "skb" ? "copy" : "auto" });
  const ports: XdpPort[] = [];
  let attached: Link | null = null;
  const close = (): void => {
    attached?.close();
    for (const port of ports) port.close();
    umem.close();
    steering.close();
    netns.close();
  };
  try {
    // What is not an answer passes, so the host's kernel still answers ARP and ND, and serves other programs.
    steering.setLocals(options.mirror ? [options.source, options.destination] : [options.source]);
    const any = options.source.length === 4 ? V4_ANY : V6_ANY;
    if (options.mirror) steering.setPort(IPPROTO_UDP, options.destinationPort, any);
    for (let flow = 0; flow < options.flows; flow++) steering.setPort(IPPROTO_UDP, options.sourcePort + flow, any);
    netns.run(() => {
      for (const queue of link.queues) {
        const port = new XdpPort(umem, pool, {
          ifindex: link.ifindex,
          queue,
          busyPoll: true,
          partialChecksums: true,
        });
        ports.push(port);
        steering.xskmap.set(queue, port.fd);
      }
      const mode = link.otherwiseSkb ? "auto" : link.mode;
      attached = attachSteering(steering, { name: "", ifindex: link.ifindex }, link.mode, mode).link;
    });
    return { ports, close };
  } catch (error) {
    close();
    throw error;
  }
}

function openMemory(link: Extract<GeneratorStart["link"], { kind: "memory" }>, pool: FramePool): Opened {
  const area = new SharedArea(FRAMES * FRAME_SIZE, new SharedArrayBuffer(FRAMES * FRAME_SIZE + PAGE_SIZE));
  const memory = new Uint8Array(area.buffer, area.byteOffset, area.byteLength);
  const toeplitz = new Toeplitz(RSS_KEY_SYMMETRIC);
  const hash = (bytes: Uint8Array, frame: number, length: number): number => rssHash(toeplitz, bytes, frame, length);
  const queues = Array.from({ length: link.wire.queues[link.side] }, (_, queue) => queue);
  const ports = queues.map((queue) => MemoryPort.attach(link.wire, link.side, pool, memory, { queue, hash }));
  return {
    ports,
    close: () => {
      for (const port of ports) port.close();
    },
  };
}

runLoad<GeneratorStart>(({ link, options }, board) => {
  const pool = new FramePool(FRAMES, FRAME_SIZE);
  const { ports, close } = link.kind === "xdp" ? openXdp(link, options, pool) : openMemory(link, pool);
  try {
    const generator = new Generator(ports, options, board);
    return { send: (on, rate) => generator.send(on, rate), turn: () => generator.turn(), close };
  } catch (error) {
    close();
    throw error;
  }
});
