/** send(): forms, payloads, callbacks and their order, lookups, errors; connect() and disconnect(). */
import { BlockList } from "node:net";
import type { AnySocket, Cases, Side } from "./dgram-compare.ts";

const HELLO = Buffer.from("hello");

/** Sends in some way to the peer, and gives what comes back, and what the callback was called with. */
async function echo(side: Side, socket: AnySocket, ...given: unknown[]): Promise<unknown> {
  const answer = side.next(socket);
  const called = await side.called((callback) => socket.send(...given, callback));
  return [(await answer).text, called];
}

async function connectTo(side: Side, socket: AnySocket, port: number, address: string): Promise<void> {
  await new Promise<void>((resolve) => socket.connect(port, address, resolve));
  side.name(socket.address().port, "PORT");
}

/** A lookup that knows names, and what it was asked. */
function lookupOf(side: Side, names: Record<string, string>) {
  const asked: unknown[] = [];
  const lookup = (name: string, family: number, callback: (...values: unknown[]) => void): void => {
    asked.push([name, family]);
    const address = names[name] ?? (name.includes(":") || /^[\d.]+$/.test(name) ? name : null);
    if (address !== null) callback(null, address, family);
    else callback(Object.assign(new Error(`no ${name}`), { code: "ENOTFOUND" }));
  };
  return { asked, options: { type: "udp4", lookup } as never, side };
}

export const sendCases: Cases = {
  "send: forms to an address": async (side) => {
    const { peer4, peerPort } = side.at;
    const socket = await side.bound();
    return {
      whole: await echo(side, socket, HELLO, peerPort, peer4),
      part: await echo(side, socket, HELLO, 1, 3, peerPort, peer4),
      "part, nothing of it": await echo(side, socket, HELLO, 5, 0, peerPort, peer4),
      "part of a string": await echo(side, socket, "h\u00e9llo", 0, 3, peerPort, peer4),
      "part of a fraction": await echo(side, socket, HELLO, 1.9, 2.9, peerPort, peer4),
      "port as text": await echo(side, socket, HELLO, String(peerPort), peer4),
    };
  },

  "send: without an address": async (side) => {
    const outcome: Record<string, unknown> = {};
    for (const type of ["udp4", "udp6"] as const) {
      const loopback = type === "udp4" ? "127.0.0.1" : "::1";
      const receiver = await side.bound(type, 0, loopback);
      const { port } = receiver.address();
      const sender = await side.bound(type);
      for (const given of [
        [HELLO, port],
        [HELLO, 0, 5, port],
        [HELLO, port, undefined],
        [HELLO, port, ""],
        [HELLO, port, null],
      ]) {
        const next = side.next(receiver);
        const called = await side.called((callback) => sender.send(...given, callback));
        const { text, sender: from } = await next;
        outcome[`${type}, ${given.length}, ${given[2]}`] = [text, called, from.address, from.family];
      }
    }
    return outcome;
  },

  "send: payloads": async (side) => {
    const { peer4, peerPort } = side.at;
    const socket = await side.bound();
    const words = new Uint16Array([0x6568, 0x6c6c]);
    const all = async (payload: unknown) => await echo(side, socket, payload, peerPort, peer4);
    return {
      string: await all("h\u00e9llo \u20ac"),
      buffer: await all(HELLO),
      "part of a buffer": await all(Buffer.from("a hello b").subarray(2, 7)),
      Uint8Array: await all(new Uint8Array(HELLO)),
      Uint16Array: await all(words),
      DataView: await all(new DataView(words.buffer, 1, 2)),
      "list of buffers": await all([HELLO, Buffer.from(", "), Buffer.from("world")]),
      "list of all kinds": await all(["h\u00e9", HELLO, words, new DataView(words.buffer, 2)]),
      "list of one": await all([HELLO]),
      "empty string": await all(""),
      "empty buffer": await all(Buffer.alloc(0)),
      "empty list": await all([]),
      "list of nothing": await all(["", Buffer.alloc(0)]),
      "more than a frame": await (async () => {
        const [text, called] = (await all("x".repeat(9000))) as [string, unknown];
        return [text.length, called];
      })(),
    };
  },

  "send: what no message is": async (side) => {
    const { peer4, peerPort } = side.at;
    const socket = await side.bound();
    const send =
      (...given: unknown[]) =>
      () =>
        socket.send(...given);
    return side.attempts({
      nothing: send(),
      number: send(5, peerPort, peer4),
      null: send(null, peerPort, peer4),
      object: send({}, peerPort, peer4),
      function: send(() => {}, peerPort, peer4),
      ArrayBuffer: send(new ArrayBuffer(3), peerPort, peer4),
      "list with a number": send(["a", 5], peerPort, peer4),
      "list with a list": send([[HELLO]], peerPort, peer4),
      "part of a list": send([HELLO], 0, 1, peerPort, peer4),
      "offset behind the end": send(HELLO, 6, 0, peerPort, peer4),
      "length behind the end": send(HELLO, 1, 5, peerPort, peer4),
      "negative offset": send(HELLO, -1, 1, peerPort, peer4),
      "negative length": send(HELLO, 0, -1, peerPort, peer4),
      sendto: () => socket.sendto(HELLO, 0, 5, peerPort, peer4),
      "sendto, offset": () => socket.sendto(HELLO, "0", 5, peerPort, peer4),
      "sendto, length": () => socket.sendto(HELLO, 0, undefined, peerPort, peer4),
      "sendto, port": () => socket.sendto(HELLO, 0, 5, String(peerPort), peer4),
      "sendto, address": () => socket.sendto(HELLO, 0, 5, peerPort),
    });
  },

  "send: what no destination is": async (side) => {
    const { peer4, peerPort } = side.at;
    const socket = await side.bound();
    const send =
      (...given: unknown[]) =>
      () =>
        socket.send(...given);
    return side.attempts({
      "no port": send(HELLO),
      "port 0": send(HELLO, 0),
      "port 65536": send(HELLO, 65_536),
      "negative port": send(HELLO, -1),
      "fraction of a port": send(HELLO, 1.5),
      "port a word": send(HELLO, "word"),
      "port blank": send(HELLO, " "),
      "port null": send(HELLO, null),
      "port NaN": send(HELLO, Number.NaN),
      "port an object": send(HELLO, { port: 9 }),
      "port of a part": send(HELLO, 0, 5, 0, ""),
      "address a number": send(HELLO, peerPort, 5),
      "address true": send(HELLO, peerPort, true),
      "address an object": send(HELLO, peerPort, {}),
      "address of a part": send(HELLO, 0, 5, peerPort, 7),
      "callback no function": send(HELLO, peerPort, peer4, "done"),
    });
  },

  "send: binds": async (side) => {
    const log: unknown[] = [];
    const socket = side.socket();
    socket.on("listening", () => log.push("listening"));
    const answers: Promise<unknown>[] = [];
    const texts: string[] = [];
    socket.on("message", (message: Buffer) => texts.push(String(message)));
    for (const text of ["one", "two"]) {
      answers.push(
        side.called((callback) =>
          socket.send(text, side.at.peerPort, side.at.peer4, (...values: unknown[]) => {
            log.push(text);
            callback(...values);
          }),
        ),
      );
    }
    log.push("returned", socket.getSendQueueSize(), socket.getSendQueueCount());
    const called = await Promise.all(answers);
    while (texts.length < 2) await side.next(socket);
    const { address, port } = socket.address();
    const bind = side.attempt(() => socket.bind(0));
    return { log, called, texts, address, bound: port > 0, bind };
  },

  "send: binds, and fails": async (side) => {
    const log: unknown[] = [];
    const lookup = (_name: string, _family: number, callback: (error: Error) => void) =>
      callback(new Error("no names"));
    const socket = side.socket({ type: "udp4", lookup: lookup as never });
    socket.on("error", (error: Error) => log.push(side.describe(error)));
    socket.send(HELLO, side.at.peerPort, side.at.peer4, () => log.push("called"));
    await side.turns(20);
    const left = ["error", "listening"].map((name) => socket.listenerCount(name));
    return { log, left };
  },

  "send: order of callbacks": async (side) => {
    const { peer4, peerPort } = side.at;
    const run = async (socket: AnySocket, ...to: unknown[]) => {
      const log: unknown[] = [];
      const note = (name: string) => () => void log.push(name);
      // From a tick: a promise's continuation, where a test would be, runs after what it queues.
      await new Promise<void>((resolve) => {
        setImmediate(() => {
          socket.send("a", ...to, note("a"));
          process.nextTick(note("first tick"));
          socket.send("b", ...to, note("b"));
          process.nextTick(() => {
            log.push("second tick");
            process.nextTick(note("tick of the tick"));
          });
          setImmediate(() => {
            log.push("immediate");
            resolve();
          });
          log.push("returned");
        });
      });
      return log;
    };
    const socket = await side.bound();
    const connected = await side.bound();
    await connectTo(side, connected, peerPort, peer4);
    return { toAddress: await run(socket, peerPort, peer4), connected: await run(connected) };
  },

  "send: callbacks that send": async (side) => {
    const { peer4, peerPort } = side.at;
    const socket = await side.bound();
    let sent = 0;
    let received = 0;
    socket.on("message", () => received++);
    const next = (): void => {
      if (++sent < 50) socket.send("again", peerPort, peer4, next);
    };
    socket.send("again", peerPort, peer4, next);
    await side.condition("all answers", () => received === 50);
    return { sent, received, queue: [socket.getSendQueueSize(), socket.getSendQueueCount()] };
  },

  "send: names": async (side) => {
    const { own4, peer4, peerPort } = side.at;
    const { asked, options } = lookupOf(side, { "peer.example": peer4 });
    const socket = side.socket(options);
    const errors: unknown[] = [];
    socket.on("error", (error: Error) => errors.push(side.describe(error)));
    await new Promise<void>((resolve) => socket.bind(0, own4, resolve));
    const answer = await echo(side, socket, HELLO, peerPort, "peer.example");
    const literal = await echo(side, socket, HELLO, peerPort, peer4);
    const loopback = await side.called((callback) => socket.send(HELLO, peerPort, callback));
    const unknown = await side.called((callback) => socket.send(HELLO, peerPort, "none.example", callback));
    socket.send(HELLO, peerPort, "none.example");
    await side.turns();
    return { asked, answer, literal, loopback, unknown, errors };
  },

  "send: localhost": async (side) => {
    const outcome: Record<string, unknown> = {};
    for (const type of ["udp4", "udp6"] as const) {
      const receiver = await side.bound(type, 0, type === "udp4" ? "127.0.0.1" : "::1");
      const sender = await side.bound(type);
      const next = side.next(receiver);
      outcome[type] = await side.called((callback) =>
        sender.send(HELLO, receiver.address().port, type === "udp4" ? "localhost" : "::1", callback),
      );
      outcome[`${type}, heard`] = (await next).text;
    }
    return outcome;
  },

  "send: what fails": async (side) => {
    const { broadcast, peer4, peer6, peerPort } = side.at;
    const socket = await side.bound();
    const six = await side.bound("udp6");
    const errors: unknown[] = [];
    for (const one of [socket, six]) one.on("error", (error: Error) => errors.push(side.describe(error)));
    const fails = (one: AnySocket, payload: unknown, port: number, address: string) =>
      side.called((callback) => one.send(payload, port, address, callback));
    const outcome = {
      "too large": await fails(socket, Buffer.alloc(65_508), peerPort, peer4),
      largest: await fails(socket, Buffer.alloc(65_507), 9, "127.0.0.1"),
      "largest, IPv6": await fails(six, Buffer.alloc(65_527), 9, "::1"),
      "too large, IPv6": await fails(six, Buffer.alloc(65_528), 9, "::1"),
      "no route": await fails(socket, HELLO, 9, "203.0.113.1"),
      "no route, IPv6": await fails(six, HELLO, 9, "2001:db8:ffff::1"),
      "IPv6 from udp4": await fails(socket, HELLO, peerPort, peer6),
      "IPv4 from udp6": await fails(six, HELLO, peerPort, peer4),
      "broadcast not allowed": await fails(socket, HELLO, peerPort, broadcast),
    };
    for (const address of [broadcast, "203.0.113.1", peer6]) socket.send(HELLO, peerPort, address);
    await side.turns();
    // Errors of sends without a callback are nobody's.
    return { ...outcome, errors };
  },

  "send: mapped addresses of IPv4 on udp6": async (side) => {
    const socket = await side.bound("udp6");
    const answer = side.next(socket);
    const mapped = `::ffff:${side.at.peer4}`;
    const called = await side.called((callback) => socket.send(HELLO, side.at.peerPort, mapped, callback));
    const { sender, text } = await answer;
    return { called, text, mapped: sender.address === mapped, family: sender.family };
  },

  "block lists": async (side) => {
    const { own4, peer4, peerPort } = side.at;
    const sendBlockList = new BlockList();
    sendBlockList.addAddress(peer4);
    const sender = await side.bound({ type: "udp4", sendBlockList } as never);
    const errors: unknown[] = [];
    sender.on("error", (error: Error) => errors.push(side.describe(error)));
    const sent = await side.called((callback) => sender.send(HELLO, peerPort, peer4, callback));
    sender.send(HELLO, peerPort, peer4);
    const connected = await side.called((callback) => sender.connect(peerPort, peer4, callback));
    sender.connect(peerPort, peer4);
    await side.event(sender, "error");
    const receiveBlockList = new BlockList();
    receiveBlockList.addSubnet(peer4, 32);
    const receiver = await side.bound({ type: "udp4", receiveBlockList } as never, 0, own4);
    const heard: string[] = [];
    receiver.on("message", (message: Buffer) => heard.push(String(message)));
    receiver.send("blocked", peerPort, peer4);
    await side.ask(await side.bound(), "fence");
    const next = side.next(receiver);
    receiver.send("from here", receiver.address().port, own4);
    await next;
    return { sent, errors, connected, heard };
  },

  "connect: forms": async (side) => {
    const { peer4, peerPort } = side.at;
    const outcome: Record<string, unknown> = {};
    for (const [name, given] of Object.entries({
      "port, address, callback": [peerPort, peer4],
      "port, callback": [peerPort],
      "port as text": [String(peerPort), peer4],
      "empty address": [peerPort, ""],
    })) {
      const socket = await side.bound();
      const log: unknown[] = [];
      socket.on("connect", (...values: unknown[]) => log.push(["event", ...values]));
      const called = side.called((callback) =>
        log.push(["returned", side.describe(socket.connect(...given, callback))]),
      );
      log.push(["then", await called]);
      await side.turns();
      outcome[name] = { log, remote: socket.remoteAddress(), local: socket.address().address };
    }
    const six = side.socket("udp6");
    await new Promise<void>((resolve) => six.connect(9, resolve));
    return { ...outcome, "udp6, unbound": [six.remoteAddress(), six.address().address] };
  },

  "connect: what it refuses": async (side) => {
    const { peer4, peer6, peerPort } = side.at;
    const socket = await side.bound();
    const connect =
      (...given: unknown[]) =>
      () =>
        socket.connect(...given);
    const refused = side.attempts({
      "no port": connect(),
      "port 0": connect(0),
      "port 70000": connect(70_000),
      "port null": connect(null),
      "address a number": connect(peerPort, 5),
      "address null": connect(peerPort, null),
    });
    const wrong = await side.called((callback) => socket.connect(peerPort, peer6, callback));
    socket.connect(peerPort, "::1");
    const [error] = await side.event(socket, "error");
    const unreachable = await side.called((callback) => socket.connect(peerPort, "203.0.113.1", callback));
    const listeners = socket.listenerCount("connect");
    socket.connect(peerPort, peer4);
    const during = side.attempt(() => socket.connect(peerPort, peer4));
    await side.event(socket, "connect");
    const after = side.attempt(() => socket.connect(peerPort, peer4));
    return { refused, wrong, error: side.describe(error), unreachable, listeners, during, after };
  },

  "connect: sends": async (side) => {
    const { peer4, peerPort } = side.at;
    const socket = await side.bound();
    await connectTo(side, socket, peerPort, peer4);
    const throws =
      (...given: unknown[]) =>
      () =>
        socket.send(...given);
    return {
      whole: await echo(side, socket, HELLO),
      part: await echo(side, socket, HELLO, 1, 3),
      list: await echo(side, socket, [HELLO, "!"]),
      empty: await echo(side, socket, ""),
      "empty list": await echo(side, socket, []),
      refused: side.attempts({
        "with a port": throws(HELLO, 0, 5, peerPort),
        "with a port and an address": throws(HELLO, 0, 5, peerPort, peer4),
        "port where the offset would be": throws(HELLO, peerPort),
        "no message": throws(),
        "behind the end": throws(HELLO, 5, 1),
        callback: throws(HELLO, 0, 5, null),
      }),
    };
  },

  "connect: hears the peer alone": async (side) => {
    const { peer4, peerPort } = side.at;
    const socket = await side.bound();
    const before: string[] = [];
    socket.on("message", (message: Buffer) => before.push(String(message)));
    await side.ask(socket, { ask: "other", text: "unconnected" });
    while (before.length < 2) await side.next(socket);
    await connectTo(side, socket, peerPort, peer4);
    const answer = side.next(socket);
    socket.send(JSON.stringify({ ask: "other", text: "connected" }));
    const { text } = await answer;
    const answered = side.next(socket);
    socket.send("fence");
    await answered;
    return { before, text, heard: before.slice(2) };
  },

  "connect: while it connects": async (side) => {
    const { peer4, peerPort } = side.at;
    const socket = side.socket();
    socket.connect(peerPort, peer4);
    const unaddressed = side.attempt(() => socket.send("early"));
    const addressed = await side.called((callback) => socket.send("early", peerPort, peer4, callback));
    return { unaddressed, addressed, remote: socket.remoteAddress() };
  },

  "connect: nobody there": async (side) => {
    const { closedPort, peer4 } = side.at;
    const socket = await side.bound();
    await connectTo(side, socket, closedPort, peer4);
    const errors = side.event(socket, "error");
    const called = await side.called((callback) => socket.send("anybody?", callback));
    const [error] = await errors;
    // An ICMP error is told once, to the event or to the next send, whichever comes first.
    const quiet = await side.bound();
    quiet.send("anybody?", closedPort, peer4);
    return { called, error: side.describe(error), unconnected: (await side.ask(quiet, "still works")).text };
  },

  disconnect: async (side) => {
    const { peer4, peerPort } = side.at;
    const socket = await side.bound();
    const before = side.attempt(() => socket.disconnect());
    await connectTo(side, socket, peerPort, peer4);
    const local = socket.address();
    const done = side.attempt(() => socket.disconnect());
    const twice = side.attempt(() => socket.disconnect());
    const remote = side.attempt(() => socket.remoteAddress());
    const after = socket.address();
    const answer = (await side.ask(socket, "after")).text;
    await connectTo(side, socket, peerPort, peer4);
    return {
      before,
      local: local.address === side.at.own4,
      done,
      twice,
      remote,
      after: [after.address, after.family],
      port: after.port === local.port,
      answer,
      again: socket.remoteAddress(),
    };
  },

  "disconnect: a port that was asked for stays": async (side) => {
    const socket = await side.bound("udp4", 7123);
    await connectTo(side, socket, side.at.peerPort, side.at.peer4);
    socket.disconnect();
    return { after: socket.address() };
  },
};
