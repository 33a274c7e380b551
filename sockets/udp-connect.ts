/** bind(2) and connect(2) of a UDP socket: agreed with the kernel, then brought into the table. */
import { ERRNO } from "af-xdp-bindings";
import { Binding } from "./binder.ts";
import type { Endpoint } from "./endpoint.ts";
import { TX_DEVICE, withFlag } from "./send-word.ts";
import {
  DEVICE,
  F_CHILD,
  F_CHOSEN_PORT,
  F_V6ONLY,
  F_WILDCARD,
  FLAGS,
  IPPROTO_UDP,
  LOCAL,
  LOCAL_PORT,
  OPEN,
  REMOTE,
  REMOTE_PORT,
  type SocketTable,
  STATE,
} from "./table.ts";
import { wordsAt } from "./text-address.ts";

const binding = new Binding();

/** Binds to a sockaddr. Returns 0 or -errno. */
export function bindRecord(endpoint: Endpoint, id: number, address: Uint8Array): number {
  const { table, shared } = endpoint;
  const result = table.mutex.hold(() => {
    if (table.get(id, FLAGS) & F_CHILD) return -ERRNO.EINVAL;
    const asked = shared.binder.bind(table, id, address, binding);
    if (asked < 0) return asked;
    const { local } = binding;
    const before = table.get(id, FLAGS);
    // An IPv6 address speaks IPv6 alone (__inet6_bind), and so do those of its reuseport group.
    const v6only = !isAny(local) && (local[0] !== 0 || local[1] !== 0 || local[2] !== 0xffff) ? F_V6ONLY : 0;
    table.set(id, FLAGS, before | v6only);
    const adopted = adopt(endpoint, id);
    if (adopted < 0) {
      table.set(id, FLAGS, before);
      return adopted;
    }
    const flags = withFlag(table.get(id, FLAGS), F_WILDCARD, isAny(local));
    table.set(id, FLAGS, withFlag(flags, F_CHOSEN_PORT, address[2] === 0 && address[3] === 0));
    return 0;
  });
  endpoint.tableChanged();
  return result;
}

/** Connects to a sockaddr; AF_UNSPEC dissolves the connection. Returns 0 or -errno. */
export function connectRecord(endpoint: Endpoint, id: number, address: Uint8Array): number {
  const { table, shared } = endpoint;
  // Datagrams on their way leave from the address they were sent from.
  endpoint.settle();
  const result = table.mutex.hold(() => {
    if (table.get(id, FLAGS) & F_CHILD) return -ERRNO.EISCONN;
    const unbound = table.get(id, STATE) === OPEN;
    const connected = shared.binder.connect(table, id, address, binding);
    if (connected < 0 && !unbound) return connected;
    // It has a port now, connected or not.
    if (unbound) table.set(id, FLAGS, table.get(id, FLAGS) | F_CHOSEN_PORT);
    const adopted = adopt(endpoint, id);
    return connected < 0 ? connected : adopted;
  });
  endpoint.tableChanged();
  return result;
}

/** The kernel has given the socket a port while it sent: brings it into the table. Returns 0 or -errno. */
export function followRecord(endpoint: Endpoint, id: number): number {
  const { table, shared } = endpoint;
  const result = table.mutex.hold(() => {
    shared.binder.readNames(table, id, binding);
    if (binding.localPort === 0) return 0;
    table.set(id, FLAGS, table.get(id, FLAGS) | F_CHOSEN_PORT);
    return adopt(endpoint, id);
  });
  endpoint.tableChanged();
  return result;
}

/** Brings the names and the interface in `binding` into the socket's record, and what steers its port up to date. */
function adopt(endpoint: Endpoint, id: number): number {
  const { table, shared } = endpoint;
  const before = wordsAt(table, id, LOCAL);
  const wasAny = isAny(before);
  const portBefore = table.get(id, LOCAL_PORT);
  if (portBefore !== 0 && portBefore !== binding.localPort) {
    table.unbindLocked(id);
    shared.binder.steer(table, IPPROTO_UDP, portBefore, before);
  }
  for (let i = 0; i < 4; i++) {
    table.set(id, LOCAL + i, binding.local[i]);
    table.set(id, REMOTE + i, binding.remote[i]);
  }
  table.set(id, LOCAL_PORT, binding.localPort);
  table.set(id, REMOTE_PORT, binding.remotePort);
  if (table.get(id, DEVICE) !== binding.device) bindToInterface(table, id, binding.device);
  if (binding.localPort === 0) return 0;
  if (table.get(id, STATE) === OPEN) {
    const bound = table.bindLocked(id);
    if (bound < 0) {
      for (let i = 0; i < 4; i++) table.set(id, LOCAL + i, before[i]);
      table.set(id, LOCAL_PORT, 0);
      return bound;
    }
  }
  const isRehashed = portBefore === binding.localPort && wasAny !== isAny(binding.local);
  if (isRehashed) table.rehashLocked(id);
  if (binding.remotePort !== 0 || portBefore !== 0) table.connectLocked(id);
  shared.binder.steer(table, IPPROTO_UDP, binding.localPort, before);
  return 0;
}

function bindToInterface(table: SocketTable, id: number, ifindex: number): void {
  table.set(id, DEVICE, ifindex);
  table.ttlTos[id] = withFlag(table.ttlTos[id], TX_DEVICE, ifindex !== 0);
  table.ttlTos6[id] = withFlag(table.ttlTos6[id], TX_DEVICE, ifindex !== 0);
}

const isAny = (words: Int32Array): boolean =>
  words[0] === 0 && words[1] === 0 && (words[2] === 0 || words[2] === 0xffff) && words[3] === 0;
