/**
 * A target as a program: `bun serve-child.ts '{"target":"bun-udp", …}'` (ChildStart). Prints a line of JSON when it serves
 * (EngineInfo, or null), its counts for each line on its standard input, and ends with that.
 */
import { setAffinity } from "../../host/affinity.ts";
import { BYTES, COUNTS_BYTES, REQUESTS, type ServeData, spinner } from "../serve.ts";
import { type ChildStart, engineTarget, type TargetCounts } from "../target.ts";

/** Datagrams of "stream" a call. */
const STREAM_BURST = 64;

interface Served {
  info: unknown;
  counts(): Promise<TargetCounts>;
  close(): Promise<void>;
}

const start = JSON.parse(process.argv[2]) as ChildStart;
const served = await open();
process.stdout.write(`${JSON.stringify(served.info)}\n`);
for await (const _line of console) process.stdout.write(`${JSON.stringify(await served.counts())}\n`);
await served.close();
process.exit(0);

async function open(): Promise<Served> {
  const { target, cpu, data, handoff } = start;
  switch (target) {
    case "lcore":
      return await engineTarget(
        { provider: "engine", interface: start.interface, cpus: [cpu], poll: handoff ? "adaptive" : "busy" },
        data,
        handoff ? cpu : null,
      );
    case "lcore-kernel":
      return await engineTarget({ provider: "kernel", cpus: [cpu], poll: "busy" }, data, null);
    default:
      setAffinity(0, [cpu]);
      return data.protocol === "udp" ? await bunUdp(data) : bunTcp(data);
  }
}

function plain(counts: Float64Array): Served {
  return {
    info: null,
    counts: async () => ({ requests: counts[REQUESTS], bytes: counts[BYTES] }),
    close: async () => {},
  };
}

/** On Bun.udpSocket. */
async function bunUdp({ way, port, size, spin }: Omit<ServeData, "counts">): Promise<Served> {
  const counts = new Float64Array(COUNTS_BYTES / 8);
  const work = spinner(spin);
  const out = way === "forward" ? await Bun.udpSocket({ port: port + 1, socket: { error() {} } }) : null;
  let peer: { port: number; address: string } | null = null;
  const server = await Bun.udpSocket({
    port,
    socket: {
      data(socket, data, sourcePort, address) {
        work();
        if (way === "stream") {
          const first = peer === null;
          peer = { port: sourcePort, address };
          if (first) send();
          return;
        }
        counts[REQUESTS]++;
        counts[BYTES] += data.length;
        if (way !== "count") (out ?? socket).send(data, sourcePort, address);
      },
      // Answers that are under way when the load ends are refused: nobody has their port any more.
      error() {},
    },
  });
  const burst = Array.from({ length: STREAM_BURST }, () => new Uint8Array(size));
  const views = burst.map(({ buffer }) => new DataView(buffer));
  let number = 0;
  const send = (): void => {
    if (peer !== null) {
      const list: (Uint8Array | number | string)[] = [];
      for (let i = 0; i < burst.length; i++) {
        views[i].setUint32(0, (number + i) >>> 0, true);
        list.push(burst[i], peer.port, peer.address);
      }
      const sent = server.sendMany(list);
      number = (number + sent) >>> 0;
      counts[REQUESTS] += sent;
    }
    setImmediate(send);
  };
  return plain(counts);
}

/** On Bun.listen. */
function bunTcp({ way, port, spin }: Omit<ServeData, "counts">): Served {
  const counts = new Float64Array(COUNTS_BYTES / 8);
  const work = spinner(spin);
  Bun.listen({
    hostname: "0.0.0.0",
    port,
    socket: {
      data(socket, data) {
        counts[BYTES] += data.length;
        if (way === "sink") return;
        work();
        counts[REQUESTS]++;
        if (way === "once") socket.end(data);
        else socket.write(data);
      },
      // Connections under way when the load ends are reset.
      error() {},
    },
  });
  return plain(counts);
}
