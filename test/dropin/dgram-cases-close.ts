/** Sockets closed: order of events, what is left of them, signals, the process. */
import { once } from "node:events";
import type { AnySocket, Cases, Side } from "./dgram-compare.ts";

/** Every method, on a socket in some state. */
function everyMethod(side: Side, socket: AnySocket): Record<string, unknown> {
  return side.attempts({
    address: () => socket.address(),
    remoteAddress: () => socket.remoteAddress(),
    bind: () => socket.bind(0),
    connect: () => socket.connect(9),
    disconnect: () => socket.disconnect(),
    send: () => socket.send("x", 9, side.at.peer4),
    sendto: () => socket.sendto(Buffer.from("x"), 0, 1, 9, side.at.peer4),
    close: () => socket.close(),
    setBroadcast: () => socket.setBroadcast(true),
    setTTL: () => socket.setTTL(64),
    setMulticastTTL: () => socket.setMulticastTTL(1),
    setMulticastLoopback: () => socket.setMulticastLoopback(true),
    setMulticastInterface: () => socket.setMulticastInterface("0.0.0.0"),
    addMembership: () => socket.addMembership("239.9.9.9"),
    dropMembership: () => socket.dropMembership("239.9.9.9"),
    addSourceSpecificMembership: () => socket.addSourceSpecificMembership(side.at.peer4, "232.9.9.9"),
    dropSourceSpecificMembership: () => socket.dropSourceSpecificMembership(side.at.peer4, "232.9.9.9"),
    getRecvBufferSize: () => socket.getRecvBufferSize(),
    getSendBufferSize: () => socket.getSendBufferSize(),
    setRecvBufferSize: () => socket.setRecvBufferSize(10_000),
    setSendBufferSize: () => socket.setSendBufferSize(10_000),
    getSendQueueSize: () => socket.getSendQueueSize(),
    getSendQueueCount: () => socket.getSendQueueCount(),
    ref: () => socket.ref(),
    unref: () => socket.unref(),
  });
}

export const closeCases: Cases = {
  "close: every method afterwards": async (side) => {
    const socket = await side.bound();
    socket.close();
    return everyMethod(side, socket);
  },

  "close: every method after a socket that was never bound": (side) => {
    const socket = side.socket();
    socket.close();
    return everyMethod(side, socket);
  },

  "close: order of what happens": async (side) => {
    const log: unknown[] = [];
    const socket = await side.bound();
    socket.on("close", () => log.push("close, listener"));
    const returned = socket.close(function (this: unknown) {
      log.push("callback", this === socket);
    });
    log.push("returned", returned === socket);
    process.nextTick(() => log.push("tick"));
    setImmediate(() => log.push("immediate"));
    await side.turns();
    const odd = await side.bound();
    odd.close("no function" as never);
    await side.event(odd, "close");
    return { log };
  },

  "close: while it binds": async (side) => {
    const log: unknown[] = [];
    const socket = side.socket();
    socket.on("listening", () => log.push("listening"));
    socket.on("close", () => log.push("close"));
    socket.bind(0, () => log.push("callback"));
    socket.close();
    await side.turns(20);
    return { log };
  },

  "close: when it listens": async (side) => {
    const log: unknown[] = [];
    const socket = side.socket();
    socket.on("listening", () => {
      log.push("listening");
      socket.close();
    });
    socket.on("close", () => log.push("close"));
    socket.bind(0);
    await side.event(socket, "close");
    await side.turns();
    return { log };
  },

  "close: the port is free": async (side) => {
    const socket = await side.bound("udp4", 0, side.at.own4);
    const { port } = socket.address();
    socket.close();
    const next = side.socket();
    next.bind(port, side.at.own4);
    await once(next, "listening");
    return { same: next.address().port === port };
  },

  "close: in a message, no more come": async (side) => {
    const socket = await side.bound();
    const heard: string[] = [];
    socket.on("message", (message: Buffer) => {
      heard.push(String(message));
      socket.close();
    });
    for (const text of ["one", "two", "three"]) socket.send(text, side.at.peerPort, side.at.peer4);
    await side.event(socket, "close");
    const fence = await side.bound();
    await side.ask(fence, "fence");
    return { heard };
  },

  "close: what waits for the bind comes before": async (side) => {
    const log: unknown[] = [];
    const socket = side.socket();
    socket.connect(side.at.peerPort, side.at.peer4, () => log.push("connect"));
    const returned = socket.close(() => log.push("close")) === socket;
    log.push(["returned", returned]);
    await side.event(socket, "close");
    await side.turns();
    return { log };
  },

  "close: datagrams sent just before": async (side) => {
    const log: unknown[] = [];
    const socket = await side.bound();
    socket.send("last", side.at.peerPort, side.at.peer4, () => log.push("sent, to an address"));
    socket.close();
    const connected = await side.bound();
    await new Promise<void>((resolve) => connected.connect(side.at.peerPort, side.at.peer4, resolve));
    connected.send("last", () => log.push("sent, connected"));
    connected.close();
    await side.turns();
    return { address: log.includes("sent, to an address"), connected: log.includes("sent, connected") };
  },

  "close: twice": async (side) => {
    const socket = await side.bound();
    socket.close();
    return { second: side.attempt(() => socket.close()) };
  },

  asyncDispose: async (side) => {
    const log: unknown[] = [];
    const socket = await side.bound();
    socket.on("close", () => log.push("close"));
    const first = await socket[Symbol.asyncDispose]();
    log.push("disposed");
    const second = await socket[Symbol.asyncDispose]();
    return { log, first: side.describe(first), second: side.describe(second) };
  },

  signal: async (side) => {
    const log: unknown[] = [];
    const controller = new AbortController();
    const socket = await side.bound({ type: "udp4", signal: controller.signal });
    socket.on("close", () => log.push("close"));
    controller.abort();
    log.push("aborted");
    const after = side.attempt(() => socket.address());
    await side.turns();
    const early = side.socket({ type: "udp4", signal: AbortSignal.abort() });
    early.on("close", () => log.push("close of one aborted before"));
    const bind = side.attempt(() => early.bind(0));
    await side.turns();
    const late = new AbortController();
    const closed = await side.bound({ type: "udp4", signal: late.signal });
    closed.close();
    await side.event(closed, "close");
    const again = side.attempt(() => late.abort());
    return { log, after, bind, again };
  },

  "unref and ref give the socket back": async (side) => {
    const socket = side.socket();
    const before = [socket.unref() === socket, socket.ref() === socket];
    await new Promise<void>((resolve) => socket.bind(0, resolve));
    const after = [socket.unref() === socket, socket.unref() === socket, socket.ref() === socket];
    return { before, after, works: (await side.ask(socket, "referenced")).text };
  },
};
