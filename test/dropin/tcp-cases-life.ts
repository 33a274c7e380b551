/** Connections of Bun.listen and Bun.connect: what their handlers hear, in which order; writing, ending, properties. */
import { AsyncLocalStorage } from "node:async_hooks";
import { describe } from "./bun-compare.ts";
import { type Any, joined, type TcpCases, told } from "./tcp-compare.ts";

/** What a socket says of itself that does not differ from run to run. */
function shown(socket: Any): unknown {
  const { readyState, localAddress, localFamily, remoteAddress, remoteFamily, authorized, alpnProtocol } = socket;
  const ports = [socket.localPort > 0, socket.remotePort > 0];
  const values = { localAddress, localFamily, remoteAddress, remoteFamily, authorized, alpnProtocol };
  return { readyState, ports, ...Object.fromEntries(Object.entries(values).map(([k, v]) => [k, describe(v)])) };
}

export const tcpLifeCases: TcpCases = {
  "served: the peer connects, sends, ends": async (side) => {
    const served = await side.served();
    served.peer.send("hello");
    await side.heard(served, "data");
    served.peer.end();
    await side.heard(served, "close");
    await side.until("the end", () => served.peer.pull() && served.peer.ended);
    await side.silence();
    return [served.events, shown(served.socket)];
  },

  "served: allowHalfOpen": async (side) => {
    const served = await side.served({}, { allowHalfOpen: true });
    served.peer.send("hello");
    await side.heard(served, "data");
    served.peer.end();
    await side.heard(served, "end");
    await side.silence();
    const before = [served.socket.readyState, served.socket.write("answer")];
    await side.until("the answer", () => served.peer.text === "answer");
    served.socket.end();
    await side.heard(served, "close");
    return [served.events, before];
  },

  "served: the peer sends and ends at once": async (side) => {
    const served = await side.served();
    served.peer.send("hello");
    served.peer.end();
    await side.heard(served, "close");
    return joined(served.events);
  },

  "served: end() in open": async (side) => {
    const served = await side.served({ open: (socket: Any) => socket.end("bye") });
    await side.until("the end", () => served.peer.pull() && served.peer.ended);
    const before = [...served.events];
    served.peer.close();
    await side.heard(served, "close");
    return [before, served.events, served.peer.bytes];
  },

  "served: the peer resets": async (side) => {
    const served = await side.served();
    served.peer.reset();
    await side.heard(served, "close");
    await side.silence();
    return [served.events, shown(served.socket)];
  },

  "served: the peer resets after data": async (side) => {
    const served = await side.served();
    served.peer.send("hello");
    await side.heard(served, "data");
    served.peer.reset();
    await side.heard(served, "close");
    return served.events;
  },

  "served: terminate()": async (side) => {
    const served = await side.served();
    const result = told(() => served.socket.terminate());
    const after = [...served.events];
    await side.until("the reset", () => {
      served.peer.pull();
      return served.peer.error !== 0 || served.peer.ended;
    });
    await side.silence();
    return [result, after, served.events, served.peer.error, served.peer.ended, shown(served.socket)];
  },

  "served: end() calls close at once, or later": async (side) => {
    const served = await side.served();
    const result = told(() => served.socket.end("x"));
    const after = [[...served.events], served.socket.readyState];
    await side.until("the end", () => served.peer.pull() && served.peer.ended);
    served.peer.close();
    await side.heard(served, "close");
    return [result, after, served.events];
  },

  "served: shutdown()": async (side) => {
    const served = await side.served();
    const result = told(() => served.socket.shutdown());
    const after = [[...served.events], served.socket.readyState, told(() => served.socket.write("x"))];
    await side.until("the end", () => served.peer.pull() && served.peer.ended);
    served.peer.send("more");
    await side.heard(served, "data");
    await side.silence();
    served.peer.close();
    await side.heard(served, "close");
    return [result, after, served.events];
  },

  "served: shutdown(true), which half closes": async (side) => {
    const served = await side.served();
    const result = told(() => served.socket.shutdown(true));
    const after = [[...served.events], served.socket.readyState];
    served.peer.send("more");
    await side.heard(served, "data");
    await side.silence();
    served.peer.close();
    await side.heard(served, "close");
    await side.silence();
    return [result, after, joined(served.events)];
  },

  "served: close()": async (side) => {
    const served = await side.served();
    const result = told(() => served.socket.close());
    const after = [[...served.events], served.socket.readyState];
    await side.until("the end", () => {
      served.peer.pull();
      return served.peer.ended || served.peer.error !== 0;
    });
    return [result, after, served.events, served.peer.error];
  },

  "connected: what comes first": async (side) => {
    const order: string[] = [];
    const connected = await side.connected({
      open: () => void order.push("open"),
      data: () => void order.push("data"),
    });
    order.push("promise");
    connected.peer.send("hello");
    await side.heard(connected, "data");
    return [order, connected.events, shown(connected.socket)];
  },

  "connected: the peer ends": async (side) => {
    const connected = await side.connected();
    connected.peer.end();
    await side.heard(connected, "close");
    return [connected.events, shown(connected.socket)];
  },

  "connected: the peer resets": async (side) => {
    const connected = await side.connected();
    connected.peer.reset();
    await side.heard(connected, "close");
    return connected.events;
  },

  "connected: end()": async (side) => {
    const connected = await side.connected();
    connected.socket.end("bye");
    await side.until("the end", () => connected.peer.pull() && connected.peer.ended);
    connected.peer.close();
    await side.heard(connected, "close");
    return connected.events;
  },

  "properties of an open socket": async (side) => {
    const { socket, listener } = await side.served({}, { data: "d" });
    return [shown(socket), socket.data, socket.listener === listener, Object.prototype.toString.call(socket)];
  },

  "properties of IPv6": async (side) => {
    const noted = side.noted();
    const listener = side.listen({ hostname: side.at.b6, socket: noted.handlers });
    side.dial(listener.port, side.at.b6);
    await side.heard(noted, "open");
    return [shown(noted.socket), listener.hostname];
  },

  "properties of IPv4 on a listener of both families": async (side) => {
    const noted = side.noted();
    const listener = side.listen({ hostname: "::", socket: noted.handlers });
    side.dial(listener.port);
    await side.heard(noted, "open");
    return shown(noted.socket);
  },

  "data: each has its own": async (side) => {
    const { socket, listener } = await side.served({}, { data: { a: 1 } });
    const same = socket.data === listener.data;
    socket.data = "own";
    return [same, socket.data, listener.data];
  },

  binaryType: async (side) => {
    const results: unknown[] = [];
    for (const binaryType of ["buffer", "uint8array", "arraybuffer", undefined]) {
      const { events, peer, ...rest } = await side.served({ binaryType });
      peer.send("hello");
      await side.heard({ events, ...rest }, "data");
      results.push(events.filter(([name]: Any) => name === "data"));
    }
    return results;
  },

  "data: is the receiver's to keep": async (side) => {
    const kept: Buffer[] = [];
    const served = await side.served({ data: (_: Any, data: Buffer) => void kept.push(data) });
    for (const text of ["first", "second"]) {
      served.peer.send(text);
      await side.heard(served, "data", kept.length + 1);
    }
    return kept.map(String);
  },

  "data: sent back": async (side) => {
    const served = await side.served({ data: (socket: Any, data: Buffer) => socket.write(data) });
    served.peer.send("echo");
    await side.until("the echo", () => served.peer.text === "echo");
    return served.events;
  },

  "data: no handler for it": async (side) => {
    const served = await side.served({ data: null });
    served.peer.send("nobody");
    served.peer.end();
    await side.heard(served, "close");
    return served.events;
  },

  "pause and resume": async (side) => {
    const served = await side.served();
    const paused = told(() => served.socket.pause());
    served.peer.send("later");
    await side.silence();
    const before = [...served.events];
    const resumed = told(() => served.socket.resume());
    await side.heard(served, "data");
    return [paused, before, resumed, served.events];
  },

  "pause: the end waits as well": async (side) => {
    const served = await side.served();
    served.socket.pause();
    served.peer.send("later");
    served.peer.end();
    await side.silence();
    const before = [...served.events];
    served.socket.resume();
    await side.heard(served, "close");
    return [before, joined(served.events)];
  },

  timeout: async (side) => {
    const served = await side.served();
    const result = told(() => served.socket.timeout(1));
    await side.heard(served, "timeout");
    return [result, served.events, served.socket.readyState];
  },

  "timeout: what it takes": async (side) => {
    const { socket } = await side.served();
    return [0, 1, 0.5, -1, "1", "x", undefined, null, {}, 1e10].map((value) => told(() => socket.timeout(value)));
  },

  "setNoDelay, setKeepAlive, ref, unref, flush": async (side) => {
    const { socket } = await side.served();
    const calls = (): unknown[] => [
      told(() => socket.setNoDelay()),
      told(() => socket.setNoDelay(false)),
      told(() => socket.setNoDelay(5)),
      told(() => socket.setKeepAlive()),
      told(() => socket.setKeepAlive(true)),
      told(() => socket.setKeepAlive(true, 1000)),
      told(() => socket.setKeepAlive(false)),
      told(() => socket.setKeepAlive(true, -1)),
      told(() => socket.ref()),
      told(() => socket.unref()),
      told(() => socket.flush()),
    ];
    const open = calls();
    socket.terminate();
    return [open, calls()];
  },

  bytesWritten: async (side) => {
    const { socket, peer } = await side.served();
    const before = socket.bytesWritten;
    socket.write("hello");
    await side.until("hello", () => peer.text === "hello");
    return [before, socket.bytesWritten];
  },

  "error: what open throws": async (side) => {
    const served = await side.served({
      open: () => {
        throw new Error("thrown in open");
      },
    });
    await side.until("the end", () => served.peer.pull() && served.peer.ended);
    await side.silence();
    return [served.events, served.socket.readyState];
  },

  "error: what data throws": async (side) => {
    const served = await side.served({
      data: () => {
        throw new Error("thrown in data");
      },
    });
    served.peer.send("x");
    await side.heard(served, "error");
    served.peer.send("y");
    await side.heard(served, "error", 2);
    await side.silence();
    return [joined(served.events), served.socket.readyState];
  },

  "error: what close and end throw": async (side) => {
    const served = await side.served({
      end: () => {
        throw new Error("thrown in end");
      },
      close: () => {
        throw new Error("thrown in close");
      },
    });
    served.peer.close();
    await side.heard(served, "error", 2);
    await side.silence();
    return served.events;
  },

  "stop(): connections stay": async (side) => {
    const served = await side.served();
    served.listener.stop();
    const refused = side.dial(served.listener.port);
    await side.until("a refusal", () => {
      refused.pull();
      return refused.error !== 0;
    });
    served.peer.send("still here");
    await side.heard(served, "data");
    return [served.events, refused.error];
  },

  "stop(true): connections are closed": async (side) => {
    const served = await side.served();
    served.listener.stop(true);
    const at = [...served.events];
    await side.until("the end", () => {
      served.peer.pull();
      return served.peer.ended || served.peer.error !== 0;
    });
    await side.silence();
    return [at, served.events, served.peer.error];
  },

  "reload: handlers of the listener's connections": async (side) => {
    const heard: string[] = [];
    const served = await side.served();
    const result = told(() => served.listener.reload({ socket: { data: () => void heard.push("new data") } }));
    served.peer.send("x");
    await side.until("new data", () => heard.length === 1);
    served.peer.end();
    await side.silence();
    return [result, heard, served.events];
  },

  "reload: handlers of a socket": async (side) => {
    const heard: string[] = [];
    const served = await side.served();
    const result = told(() => served.socket.reload({ socket: { data: () => void heard.push("new data") } }));
    served.peer.send("x");
    await side.until("new data", () => heard.length === 1);
    return [result, heard, served.events, told(() => served.socket.reload()), told(() => served.socket.reload({}))];
  },

  "microtasks run between two handlers": async (side) => {
    const order: string[] = [];
    const served = await side.served({
      open: () => void Promise.resolve().then(() => order.push("after open")),
      data: (_: Any, data: Buffer) => {
        order.push(`data ${data}`);
        Promise.resolve().then(() => order.push("after data"));
      },
      end: () => void order.push("end"),
    });
    served.peer.send("x");
    served.peer.end();
    await side.heard(served, "close");
    return order;
  },

  "data: process.nextTick before promises": async (side) => {
    const order: string[] = [];
    const served = await side.served({
      data: () => {
        Promise.resolve().then(() => order.push("promise"));
        process.nextTick(() => order.push("tick"));
      },
    });
    served.peer.send("x");
    await side.until("both", () => order.length === 2);
    return order;
  },

  "handlers: the asynchronous context": async (side) => {
    const context = new AsyncLocalStorage();
    const seen: unknown[] = [];
    const see = (name: string) => () => void seen.push([name, describe(context.getStore())]);
    const noted = side.noted({ open: see("open"), data: see("data"), close: see("close") });
    const listener = context.run("of listen", () => side.listen({ socket: noted.handlers }));
    const peer = side.dial(listener.port);
    await side.heard(noted, "open");
    peer.send("x");
    await side.heard(noted, "data");
    peer.end();
    await side.heard(noted, "close");
    const ours = side.noted({ open: see("open"), close: see("close") });
    const listening = side.peer();
    const socket = await context.run("of connect", () => side.connect({ port: listening.port, socket: ours.handlers }));
    socket.end();
    await side.heard(ours, "close");
    return seen;
  },

  "connected: open throws, or ends": async (side) => {
    const listening = side.peer();
    const thrown = side.noted({
      open: () => {
        throw new Error("thrown in open");
      },
    });
    const first = await side.connect({ port: listening.port, socket: thrown.handlers });
    const ended = side.noted({ open: (socket: Any) => socket.end() });
    const second = await side.connect({ port: listening.port, socket: ended.handlers });
    return [first.readyState, thrown.events, second.readyState, ended.events];
  },

  "reload: every connection of the listener, whichever was told": async (side) => {
    const sockets: Any[] = [];
    const heard: unknown[] = [];
    const note = (name: string) => (socket: Any, data: Any) =>
      void heard.push([name, sockets.indexOf(socket), `${data}`]);
    const socket = { open: (one: Any) => void sockets.push(one), data: note("old") };
    const listener = side.listen({ socket });
    const first = side.dial(listener.port);
    await side.until("the first", () => sockets.length === 1);
    const second = side.dial(listener.port);
    await side.until("the second", () => sockets.length === 2);
    first.send("a");
    await side.until("a", () => heard.length === 1);
    sockets[0].reload({ socket: { data: note("new") } });
    first.send("b");
    await side.until("b", () => heard.length === 2);
    second.send("c");
    await side.until("c", () => heard.length === 3);
    return heard;
  },

  "tls: methods of a socket without it": async (side) => {
    const { socket } = await side.served();
    return [
      "getTLSVersion",
      "getCipher",
      "getPeerCertificate",
      "getAuthorizationError",
      "getServername",
      "getSession",
      "isSessionReused",
      "getEphemeralKeyInfo",
      "getSharedSigalgs",
      "getTLSTicket",
      "getCertificate",
      "getTLSFinishedMessage",
      "getTLSPeerFinishedMessage",
      "renegotiate",
      "disableRenegotiation",
    ].map((name) => [name, told(() => socket[name]())]);
  },
};
