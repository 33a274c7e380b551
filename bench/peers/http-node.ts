/** A small answer from a handler of node:http, in Bun or on an engine: `bun bench/peers/http-node.ts PORT node:http|lcore/http`. */
import type { RequestListener } from "node:http";
import { ANSWER } from "./http-answer.ts";

const [port, name] = process.argv.slice(2);
const { default: http } = (await import(name)) as { default: typeof import("node:http") };

const handle: RequestListener = (_request, response) => {
  response.setHeader("Content-Type", "text/html");
  response.end(ANSWER);
};

http.createServer(handle).listen(Number(port), "0.0.0.0", () => console.log("ready"));
