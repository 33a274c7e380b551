/**
 * Run by busy.test.ts without any capability: finds the bounds of SO_BUSY_POLL_BUDGET of the sockets given as descriptors
 * (arguments), which no getsockopt(2) tells. Without CAP_NET_ADMIN it may be lowered and not raised (sk_setsockopt), so
 * that the most it takes is what it was. Prints one number each, as JSON.
 */
import { abi, sys } from "af-xdp-bindings";

const SOL_SOCKET = 1;
const TRIED_MAX = 1024;

function budget(fd: number): number {
  for (let value = TRIED_MAX; value > 0; value--)
    if (sys.setsockoptInt(fd, SOL_SOCKET, abi.SO_BUSY_POLL_BUDGET, value) >= 0) return value;
  return 0;
}

console.log(JSON.stringify(process.argv.slice(2).map(Number).map(budget)));
