/** Prints, for each module and each way to it, whether it leads to the drop-in. Run by register.test.ts. */

import http, { createServer as createHttp, Server as HttpServer } from "node:http";
import https, { createServer as createHttps } from "node:https";
import { createRequire } from "node:module";
import net, { createServer as createNet, Socket } from "node:net";
import tls, { connect as connectTls } from "node:tls";
import { listen } from "bun";
import * as ourBun from "lcore/bun";
import ourHttp from "lcore/http";
import ourHttps from "lcore/https";
import ourNet from "lcore/net";
import ourTls from "lcore/tls";

const require = createRequire(import.meta.url);
const all = (...pairs: [unknown, unknown][]): boolean => pairs.every(([theirs, ours]) => theirs === ours);

console.log(
  JSON.stringify({
    net: all([net.createServer, ourNet.createServer], [createNet, ourNet.createServer], [Socket, ourNet.Socket]),
    tls: all([tls.connect, ourTls.connect], [connectTls, ourTls.connect]),
    http: all(
      [http.createServer, ourHttp.createServer],
      [createHttp, ourHttp.createServer],
      [HttpServer, ourHttp.Server],
    ),
    https: all([https.request, ourHttps.request], [createHttps, ourHttps.createServer]),
    required: all([require("node:net").Socket, ourNet.Socket], [require("node:http").Agent, ourHttp.Agent]),
    bun: all([Bun.listen, ourBun.listen], [Bun.connect, ourBun.connect], [Bun.udpSocket, ourBun.udpSocket]),
    namedBun: all([listen, ourBun.listen]),
  }),
);
