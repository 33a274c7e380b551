/** Prints, for each way to node:dgram, whether it leads to the drop-in. Run by register.test.ts. */

import dgram, { createSocket, Socket } from "node:dgram";
import { createRequire } from "node:module";
import { isMainThread } from "node:worker_threads";
// biome-ignore lint/style/useNodejsImportProtocol: the name without it is one of the ways
import * as bare from "dgram";
import dropin from "lcore/dgram";

const require = createRequire(import.meta.url);
const isOurs = (module: { createSocket: unknown; Socket: unknown }): boolean =>
  module.createSocket === dropin.createSocket && module.Socket === dropin.Socket;

console.log(
  JSON.stringify({
    default: isOurs(dgram),
    named: isOurs({ createSocket, Socket }),
    namespace: isOurs(bare),
    dynamic: isOurs(await import("node:dgram")),
    require: isOurs(require("node:dgram")),
    // biome-ignore lint/style/useNodejsImportProtocol: as above
    requireBare: isOurs(require("dgram")),
    builtin: isOurs(process.getBuiltinModule("node:dgram")),
    extended: Object.getPrototypeOf(class extends Socket {}) === dropin.Socket,
    isMainThread,
  }),
);
