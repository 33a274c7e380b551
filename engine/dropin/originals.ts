/**
 * Modules of the runtime as they are before lcore/register puts ours in their place. Not by `import`: that would link their named
 * exports, which are then the originals' for whoever imports them later (register.ts).
 */

interface Builtin {
  "node:http": typeof import("node:http");
  "node:https": typeof import("node:https");
  "node:net": typeof import("node:net");
  "node:tls": typeof import("node:tls");
}

/** What the module exports, in an object that stays as it is. */
export const original = <Name extends keyof Builtin>(name: Name): Builtin[Name] => ({
  ...(process.getBuiltinModule(name) as Builtin[Name]),
});

/** A class that may be called without `new`, as the runtime's servers may: `http.Server(listener)`. */
export function callable<T extends new (...args: never[]) => object>(Class: T): T {
  return new Proxy(Class, { apply: (target, _this, args) => new target(...(args as never[])) });
}
