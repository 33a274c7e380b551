/** What options do to the packet path: the words of the socket table that lcores and threads look at. */
import { TX_DEVICE, withFlag } from "../send-word.ts";
import { DEVICE, F_CHILD, FLAGS, IPPROTO_UDP, LOCAL_PORT, MULTICAST } from "../table.ts";
import type { UdpOption, UdpPart, UdpTarget } from "./udp-target.ts";

/** Changes the word by which the socket sends over one family, or over both. */
export function changeSendWord(target: UdpTarget, family: 0 | 4 | 6, change: (word: number) => number): void {
  const { endpoint, id } = target.socket;
  const { ttlTos, ttlTos6 } = endpoint.table;
  // What was sent before is not what the option is for.
  endpoint.settle();
  if (family !== 6) ttlTos[id] = change(ttlTos[id]);
  if (family !== 4) ttlTos6[id] = change(ttlTos6[id]);
}

/** Writes a field of the socket's record, and has the lcores look at it. */
function changeRecord(target: UdpTarget, field: number, value: number): void {
  const { endpoint, id } = target.socket;
  const { table } = endpoint;
  table.mutex.hold(() => {
    table.set(id, field, value);
    table.changed(id);
  });
  endpoint.tableChanged();
}

export function changeFlag(target: UdpTarget, bit: number, on: boolean): void {
  const { endpoint, id } = target.socket;
  changeRecord(target, FLAGS, withFlag(endpoint.table.get(id, FLAGS), bit, on));
}

/** A flag of the socket's record: 0 or 1. */
export function flagOf(target: UdpTarget, bit: number): number {
  const { endpoint, id } = target.socket;
  return (endpoint.table.get(id, FLAGS) & bit) === 0 ? 0 : 1;
}

/** changeFlag() of what the steering program has to know too. */
export function changeSteeredFlag(target: UdpTarget, bit: number, on: boolean): void {
  changeFlag(target, bit, on);
  const { endpoint, id } = target.socket;
  const { table, shared } = endpoint;
  table.mutex.hold(() => {
    if ((table.get(id, FLAGS) & F_CHILD) === 0 && table.get(id, LOCAL_PORT) !== 0)
      shared.binder.steer(table, IPPROTO_UDP, table.get(id, LOCAL_PORT), null);
  });
}

export function bindToDevice(target: UdpTarget, ifindex: number): void {
  changeRecord(target, DEVICE, ifindex);
  changeSendWord(target, 0, (word) => withFlag(word, TX_DEVICE, ifindex !== 0));
}

/** A flag that says how the socket sends. */
export const sendFlag = (family: 0 | 4 | 6, bit: number): UdpPart => ({
  effect(target, value) {
    changeSendWord(target, family, (word) => withFlag(word, bit, value !== 0));
  },
});

export const tableFlag = (bit: number): UdpPart => ({
  effect(target, value) {
    changeFlag(target, bit, value !== 0);
  },
});

/** What only the kernel does: all the socket sends goes by the placeholder while the value is not the initial one. */
export const KERNEL_SENDS: UdpPart = {
  effect(this: UdpOption, target, value) {
    target.needKernel(this, value !== this.initial);
  },
};

/** The same of a structure, which is empty unless it was set. */
export const KERNEL_SENDS_WITH: UdpPart = {
  effect(this: UdpOption, target, _value, length) {
    target.needKernel(this, length > 0);
  },
};

/** Writes `value` into the bits of MULTICAST from `shift` on. */
export function changeMulticast(target: UdpTarget, shift: number, mask: number, value: number): void {
  const { endpoint, id } = target.socket;
  const { table } = endpoint;
  // What was sent before is not what the option is for.
  endpoint.settle();
  table.set(id, MULTICAST, (table.get(id, MULTICAST) & ~(mask << shift)) | (value << shift));
}
