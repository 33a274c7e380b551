/** A small answer from Bun.serve: `bun bench/peers/http-bun.ts PORT fetch|route`, by a handler or kept by the server. */
import { ANSWER } from "./http-answer.ts";

const [port, way] = process.argv.slice(2);
const answer = (): Response => new Response(ANSWER, { headers: { "Content-Type": "text/html" } });

const where = { port: Number(port), hostname: "0.0.0.0" };

if (way === "route") Bun.serve({ ...where, routes: { "/": answer() } });
else Bun.serve({ ...where, fetch: answer });
console.log("ready");
