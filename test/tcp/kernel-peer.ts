/**
 * A kernel socket at the other end: `listen|connect ADDRESS PORT BYTES`. It sends BYTES of the stream and shuts its direction
 * down, reads until the end, and prints a line of JSON: bytes read and whether they were those of streamByte().
 */
import { connect, createServer, type Socket } from "node:net";
import { streamByte } from "./segments.ts";

const [mode, address, port, bytes] = process.argv.slice(2);

function serve(socket: Socket): void {
  let read = 0;
  let good = true;
  socket.on("data", (chunk) => {
    for (let i = 0; i < chunk.length; i++) good &&= chunk[i] === streamByte(read + i);
    read += chunk.length;
  });
  socket.on("end", () => console.log(JSON.stringify({ read, good })));
  socket.on("error", (error) => console.log(JSON.stringify({ read, good, error: String(error) })));
  socket.on("close", () => process.exit());
  const out = Buffer.alloc(Number(bytes));
  for (let i = 0; i < out.length; i++) out[i] = streamByte(i);
  socket.end(out);
}

if (mode === "listen") {
  const server = createServer({ allowHalfOpen: true }, serve);
  server.listen({ host: address, port: Number(port) }, () => console.log("listening"));
} else {
  const socket = connect({ host: address, port: Number(port), allowHalfOpen: true }, () => serve(socket));
  socket.on("error", (error) => console.log(JSON.stringify({ error: String(error) })));
}
