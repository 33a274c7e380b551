/**
 * Programs of which it is compared when and how they end: `… node|lcore NAME ADDRESS PORT`, in Bun or bundled in Node.
 */
import type { Dgram } from "./dgram-compare.ts";

/** Longer than any of them takes to end by itself. */
const ALIVE_MS = 400;

type Program = (dgram: Dgram, address: string, port: number) => void;

/** Ends the process with status 3, should nothing else have ended it. */
const endsNever = (): void => {
  setTimeout(() => process.exit(3), ALIVE_MS).unref();
};

export const PROGRAMS: Record<string, Program> = {
  "a bound socket keeps the process": (dgram) => {
    dgram.createSocket("udp4").bind(0, endsNever);
  },
  "unref'd, it does not": (dgram) => {
    const socket = dgram.createSocket("udp4");
    socket.bind(0, () => {
      socket.unref();
      endsNever();
    });
  },
  "unref'd before it is bound": (dgram) => {
    const socket = dgram.createSocket("udp4");
    socket.unref();
    socket.bind(0, () => {
      console.log("listening");
      endsNever();
    });
  },
  "unref'd and ref'd": (dgram) => {
    const socket = dgram.createSocket("udp4");
    socket.unref();
    socket.bind(0, () => {
      socket.ref();
      endsNever();
    });
  },
  closed: (dgram) => {
    const socket = dgram.createSocket("udp4");
    socket.on("close", () => console.log("closed"));
    socket.bind(0, () => setTimeout(() => socket.close(), 1));
    setTimeout(() => process.exit(3), 20 * ALIVE_MS).unref();
  },
  "never bound": (dgram) => {
    dgram.createSocket("udp4");
    endsNever();
  },
  "sends, hears the answer, closes": (dgram, address, port) => {
    const socket = dgram.createSocket("udp4", (message) => {
      console.log(String(message));
      socket.close();
    });
    socket.send("question", port, address, (error, bytes) => console.log(String(error), bytes));
  },
  "an error nobody listens for": (dgram) => {
    dgram.createSocket("udp4").bind(5000, "203.0.113.9");
  },
  "a listener that throws": (dgram, address, port) => {
    let heard = 0;
    const socket = dgram.createSocket("udp4", () => {
      if (++heard === 1) throw new Error("thrown by a listener");
      console.log("the second came");
      socket.close();
    });
    process.on("uncaughtException", (error, origin) => console.log(error.message, origin));
    for (const text of ["one", "two"]) socket.send(text, port, address);
  },
  "a callback that throws": (dgram, address, port) => {
    const socket = dgram.createSocket("udp4");
    process.on("uncaughtException", (error, origin) => {
      console.log(error.message, origin);
      socket.close();
    });
    socket.send("x", port, address, () => {
      throw new Error("thrown by a callback");
    });
  },
};

if (/dgram-exit/.test(process.argv[1] ?? "") && process.argv[2] !== undefined) {
  const [, , kind, name, address, port] = process.argv;
  const module = (kind === "lcore" ? await import("lcore/dgram") : await import("node:dgram")) as { default: Dgram };
  PROGRAMS[name](module.default, address, Number(port));
}
