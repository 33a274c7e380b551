/** A program that knows nothing of lcore: servers of node:http, node:net and Bun.listen on ports of their own. Run by register.test.ts. */
import http, { get } from "node:http";
import { createServer } from "node:net";

const [host, httpPort, netPort, bunPort, elsewhere] = process.argv.slice(2);

/** Without `new`, as many programs have it. */
const makeServer = http.Server as unknown as typeof http.createServer;
const server = makeServer((request, response) => {
  if (request.url !== "/forward") {
    response.end(`${request.method} ${request.url}`);
    return;
  }
  // A client besides: of a server of the other host.
  get(elsewhere, (answer) => answer.pipe(response));
});
const ready = (): void => console.log("listening");
server.listen(Number(httpPort), host, ready);
createServer((socket) => socket.pipe(socket)).listen(Number(netPort), host, ready);
Bun.listen({
  hostname: host,
  port: Number(bunPort),
  socket: { data: (socket, data) => void socket.write(data), end: (socket) => void socket.end() },
});
ready();
process.on("SIGTERM", () => process.exit(0));
