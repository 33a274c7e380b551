/** Run by remote-threads.test.ts: a handler on an application thread throws once. Prints what came of it as JSON. */
import { echoClient, echoHandlers, enginePair, SERVER } from "./pair.ts";

const PORT = 7300;

const errors: string[] = [];
process.on("uncaughtException", (error) => void errors.push(error.message));
const [server, client] = await enginePair();
const handlers = echoHandlers("write");
let throws = true;
server.listen(
  { port: PORT },
  {
    ...handlers,
    readable: (socket) => {
      if (throws) {
        throws = false;
        throw new Error("the application's");
      }
      handlers.readable?.(socket);
    },
  },
);
const outcomes = await Promise.all(
  [3000, 20_000, 7].map((bytes) => echoClient(client, { address: SERVER, port: PORT }, bytes)),
);
console.log(JSON.stringify({ received: outcomes.map(({ received }) => received), errors }));
await client.close();
await server.close();
process.exit(0);
