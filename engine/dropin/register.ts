/**
 * Makes `node:dgram`, `net`, `http`, `https` and `tls` of this process, and Bun.udpSocket, Bun.listen and Bun.connect, the drop-ins,
 * for programs and packages that name them themselves:
 *
 *   LCORE_INTERFACE=eth0 bun --preload lcore/register server.ts
 *
 * or `preload = ["lcore/register"]` in bunfig.toml, or `import "lcore/register"` before what requires it.
 *
 * Bun hands out one object for `require("node:net")`, `require("net")`, process.getBuiltinModule and default imports,
 * and takes the named exports from it when the first `import` of the module is linked. So the object is changed before
 * that. Bun 1.4.5 lets neither a plugin nor a mock take a built-in module's place outside of its tests.
 *
 * Bun.listen returns at once and so needs an engine that runs: where the environment says which (LCORE_...), it is started here.
 *
 * Throws Error when one of the modules has been imported already: its named exports are the original's for good.
 */
import { connect, listen, udpSocket } from "./bun.ts";
import { defaultEngine, isConfigured } from "./default-engine.ts";
import dgram from "./dgram.ts";
import http from "./http.ts";
import https from "./https.ts";
import net from "./net.ts";
import tls from "./tls.ts";

/** Each with a name of which can be told whose it is. */
const DROP_INS: Record<string, readonly [dropin: object, witness: string]> = {
  "node:dgram": [dgram, "createSocket"],
  "node:net": [net, "createServer"],
  "node:tls": [tls, "connect"],
  "node:http": [http, "createServer"],
  "node:https": [https, "createServer"],
};

const OPEN = { configurable: true, enumerable: true, writable: true };

for (const [name, [dropin]] of Object.entries(DROP_INS)) replace(process.getBuiltinModule(name) as object, dropin);
Object.assign(Bun, { connect, listen, udpSocket });

for (const [name, [dropin, witness]] of Object.entries(DROP_INS)) {
  const linked = (await import(name)) as Record<string, unknown>;
  if (linked[witness] !== (dropin as Record<string, unknown>)[witness]) {
    throw new Error(
      `lcore/register: ${name} was imported before: run with --preload lcore/register, or import it later`,
    );
  }
}

if (isConfigured()) await defaultEngine();

/** What only says something, and cannot be set, stays. */
function replace(module: object, dropin: object): void {
  for (const [name, value] of Object.entries(dropin)) {
    if ((module as Record<string, unknown>)[name] !== value) Object.defineProperty(module, name, { ...OPEN, value });
  }
}
