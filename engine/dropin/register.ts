/**
 * Makes `node:dgram` of this process the drop-in, for programs and packages that name it themselves:
 *
 *   bun --preload lcore/register server.ts
 *
 * or `preload = ["lcore/register"]` in bunfig.toml, or `import "lcore/register"` before what requires it.
 *
 * Bun hands out one object for `require("node:dgram")`, `require("dgram")`, process.getBuiltinModule and default imports,
 * and takes the named exports from it when the first `import` of the module is linked. So the object is changed before
 * that. Bun 1.4.5 lets neither a plugin nor a mock take a built-in module's place outside of its tests.
 *
 * Throws Error when the module has been imported already: its named exports are the original's for good.
 */
import { createRequire } from "node:module";
import dropin from "./dgram.ts";

Object.assign(createRequire(import.meta.url)("node:dgram"), dropin);

const linked = await import("node:dgram");
if ((linked.createSocket as unknown) !== dropin.createSocket) {
  throw new Error(
    "lcore/register: node:dgram was imported before: run with --preload lcore/register, or import it later",
  );
}
