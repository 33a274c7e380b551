/** The other host in the comparison of net: servers of the kernel's, one for each way to treat a client. Prints a line when it is up. */
import net from "node:net";

export const PORTS = { echo: 7000, greet: 7001, reset: 7002, slow: 7003, dial: 7004, closed: 7009 } as const;

/** What `dial` is asked for, a line of JSON: to connect to the asking host and say what came of it, in a line of JSON. */
export interface Dial {
  port: number;
  host: string;
  text?: string;
  /** What it does once it has sent the text: ends, resets, or waits for the other end. */
  how: "end" | "reset" | "wait";
}

const SLOW_MS = 60;

function dial({ host, how, port, text = "" }: Dial, done: (result: object) => void): void {
  const events: string[] = [];
  let answer = "";
  const socket = net.connect({ host, port, allowHalfOpen: true });
  socket.on("connect", () => {
    const then = (): void => {
      if (how === "end") socket.end();
      else if (how === "reset") socket.resetAndDestroy();
    };
    if (text === "") then();
    else socket.write(text, then);
  });
  socket.on("data", (bytes) => {
    answer += bytes;
  });
  socket.on("end", () => {
    events.push("end");
    socket.end();
  });
  socket.on("error", (error: NodeJS.ErrnoException) => events.push(error.code ?? error.message));
  socket.on("close", () => done({ answer, events }));
}

if (import.meta.main) {
  const servers = {
    echo: net.createServer({ allowHalfOpen: true }, (socket) => void socket.on("error", () => {}).pipe(socket)),
    greet: net.createServer((socket) => void socket.on("error", () => {}).end("hello")),
    reset: net.createServer((socket) => {
      socket.on("error", () => {});
      socket.once("data", () => socket.resetAndDestroy());
    }),
    slow: net.createServer({ allowHalfOpen: true, pauseOnConnect: true }, (socket) => {
      let bytes = 0;
      socket.on("data", (chunk) => {
        bytes += chunk.length;
      });
      socket.on("error", () => {});
      socket.on("end", () => socket.end(String(bytes)));
      setTimeout(() => socket.resume(), SLOW_MS);
    }),
    dial: net.createServer((socket) => {
      socket.on("error", () => {});
      socket.once("data", (line) => dial(JSON.parse(String(line)), (result) => socket.end(JSON.stringify(result))));
    }),
  };
  const waits = Object.entries(servers).map(
    ([name, server]) =>
      new Promise<void>((resolve) => server.listen(PORTS[name as keyof typeof servers], "::", () => resolve())),
  );
  await Promise.all(waits);
  console.log("up");
}
