/** What sockets of Bun.listen and Bun.connect take to send: kinds, offsets, how much, and what becomes of the rest. */
import { describe } from "./bun-compare.ts";
import { type Any, type TcpCases, told } from "./tcp-compare.ts";

const MANY = Buffer.alloc(8 << 20, "0123456789abcdef");

export const tcpWriteCases: TcpCases = {
  "write: kinds of data": async (side) => {
    const served = await side.served();
    const { socket, peer } = served;
    const bytes = Uint8Array.of(65, 66, 67, 68, 69);
    const results = [
      told(() => socket.write("text")),
      told(() => socket.write("")),
      told(() => socket.write("höß€")),
      told(() => socket.write(bytes)),
      told(() => socket.write(Buffer.from(bytes))),
      told(() => socket.write(bytes.buffer)),
      told(() => socket.write(new Uint16Array(bytes.buffer.slice(0, 4)))),
      told(() => socket.write(new DataView(bytes.buffer, 1, 2))),
      told(() => socket.write(bytes.subarray(3))),
    ];
    await side.arrived(served);
    return [results, peer.text];
  },

  "write: what it refuses": async (side) => {
    const served = await side.served();
    const { socket, peer } = served;
    const values = [undefined, null, 5, {}, [], true, false, Symbol("x"), 5n, () => {}];
    const results = values.map((value) => [describe(value), told(() => socket.write(value))]);
    const none = told(() => socket.write());
    await side.arrived(served);
    return [results, none, peer.text];
  },

  "write: offset and length": async (side) => {
    const served = await side.served();
    const { socket, peer } = served;
    const bytes = Buffer.from("0123456789");
    const results = [
      told(() => socket.write(bytes, 2)),
      told(() => socket.write(bytes, 2, 3)),
      told(() => socket.write(bytes, 0, 100)),
      told(() => socket.write(bytes, 10)),
      told(() => socket.write(bytes, 11)),
      told(() => socket.write(bytes, -1)),
      told(() => socket.write(bytes, 0, -1)),
      told(() => socket.write(bytes, undefined, 2)),
      told(() => socket.write(bytes, "x")),
      told(() => socket.write(bytes, 1.5, 2)),
    ];
    await side.arrived(served);
    return [results, peer.text];
  },

  "write: after the end": async (side) => {
    const served = await side.served();
    served.socket.end();
    const results = [
      told(() => served.socket.write("x")),
      told(() => served.socket.end("y")),
      told(() => served.socket.flush()),
    ];
    await side.until("the end", () => served.peer.pull() && served.peer.ended);
    served.peer.close();
    await side.heard(served, "close");
    results.push(
      told(() => served.socket.write("x")),
      told(() => served.socket.end()),
      told(() => served.socket.shutdown()),
    );
    return [results, served.events];
  },

  "write: a peer that does not read, until it does": async (side) => {
    let sent = 0;
    const push = (socket: Any): void => {
      while (sent < MANY.length) {
        const taken = socket.write(MANY.subarray(sent));
        sent += taken;
        if (sent < MANY.length) return;
      }
      socket.end();
    };
    const noted = side.noted({ open: push, drain: push });
    const listener = side.listen({ socket: noted.handlers });
    const peer = side.dial(listener.port, side.at.b4, 32768);
    await side.heard(noted, "open");
    await side.silence();
    const waited = sent < MANY.length;
    await side.until("all bytes", () => {
      peer.pull();
      return peer.ended;
    });
    peer.close();
    await side.heard(noted, "close");
    const names = new Set(noted.events.map(([name]) => name));
    return [waited, peer.bytes, Buffer.concat(peer.received).equals(MANY), [...names]];
  },

  "write: what is left is the caller's to keep": async (side) => {
    const noted = side.noted();
    const listener = side.listen({ socket: noted.handlers });
    const peer = side.dial(listener.port, side.at.b4, 32768);
    await side.heard(noted, "open");
    let sent = 0;
    await side.until("no room", () => {
      const taken = noted.socket.write(MANY);
      sent += taken;
      return taken === 0;
    });
    await side.until("what was taken", () => {
      peer.pull();
      return peer.bytes === sent;
    });
    await side.heard(noted, "drain");
    return [noted.socket.write("y"), noted.events.filter(([name]) => name !== "drain")];
  },

  "end: data that does not fit is sent before the end": async (side) => {
    const noted = side.noted();
    const listener = side.listen({ socket: noted.handlers });
    const peer = side.dial(listener.port, side.at.b4, 32768);
    await side.heard(noted, "open");
    const taken = noted.socket.end(MANY);
    await side.silence();
    await side.until("the end", () => {
      peer.pull();
      return peer.ended || peer.error !== 0;
    });
    return [typeof taken, taken === peer.bytes || peer.bytes === MANY.length];
  },

  "write: more than anybody could take, then end()": async (side) => {
    const connected = await side.connected({}, { peerBuffer: 32768 });
    let taken = 0;
    for (let once = 1; once > 0; taken += once) once = connected.socket.write(MANY);
    const results = [connected.socket.bytesWritten === taken];
    const ended = connected.socket.end();
    const after = [ended, connected.socket.readyState, connected.events.map(([name]) => name)];
    await side.until("the end", () => {
      connected.peer.pull();
      return connected.peer.ended || connected.peer.error !== 0;
    });
    return [results, after, connected.peer.bytes === taken];
  },
};
