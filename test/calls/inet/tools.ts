/** What scenarios of AF_INET and AF_INET6 are made of. A scenario has two hosts: `calls` is under test, `peer` the kernel's. */
import { AF_INET, AF_INET6, MSG_DONTWAIT, POLLIN, SOCK_DGRAM } from "../../../sockets/calls/constants.ts";
import { type ControlMessage, controlInt, encodeControl } from "../../../sockets/calls/control.ts";
import { addressBuffer, type Message, messageOf, nameOf } from "../../../sockets/calls/message.ts";
import type { SocketCalls } from "../../../sockets/calls/socket-calls.ts";
import type { Stage } from "../../conformance/run.ts";
import { TracedCalls } from "../../conformance/traced-calls.ts";

export interface InetScenario {
  readonly name: string;
  play(stage: Stage): void;
}

export type IpFamily = 4 | 6;
export const FAMILIES: readonly IpFamily[] = [4, 6];
export const afOf = (family: IpFamily): number => (family === 4 ? AF_INET : AF_INET6);

/** Ports of scenarios: the host's under test, another of it, and the peer's. */
export const PORT = 5001;
export const OTHER = 5002;
export const PEER_PORT = 6001;
const LAST_PORT = 5099;
/** Where nobody listens. */
export const NOBODY = 9;

/** The longest that anything is waited for. */
const WAIT_MS = 5000;

/** The sockaddr with another port. */
export function at(address: Uint8Array, port: number): Uint8Array {
  const bytes = address.slice();
  new DataView(bytes.buffer).setUint16(2, port);
  return bytes;
}

export const own = ({ places }: Stage, family: IpFamily, port: number): Uint8Array =>
  at(family === 4 ? places.own4 : places.own6, port);

export const remote = ({ places }: Stage, family: IpFamily, port: number): Uint8Array =>
  at(family === 4 ? places.peer4 : places.peer6, port);

export function any(family: IpFamily, port = 0): Uint8Array {
  const bytes = new Uint8Array(family === 4 ? 16 : 28);
  bytes[0] = afOf(family);
  return at(bytes, port);
}

/** The IPv4 address as an IPv6 one. */
export function mapped(address: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(28);
  bytes[0] = AF_INET6;
  bytes.set(address.subarray(2, 4), 2);
  bytes.set([0xff, 0xff], 18);
  bytes.set(address.subarray(4, 8), 20);
  return bytes;
}

export const text = (value: string): Uint8Array => new TextEncoder().encode(value);

/** A UDP socket bound to its own address and PORT. */
export function bound(stage: Stage, family: IpFamily, port = PORT): number {
  const fd = stage.calls.socket(afOf(family), SOCK_DGRAM, 0);
  stage.calls.bind(fd, own(stage, family, port));
  return fd;
}

/** The peer's socket, bound to PEER_PORT. */
export function peerOf(stage: Stage, family: IpFamily, port = PEER_PORT): number {
  const fd = stage.peer.socket(afOf(family), SOCK_DGRAM, 0);
  stage.peer.bind(fd, remote(stage, family, port));
  return fd;
}

/** Waits for events; how long is no part of the story, nor that an error may be there a moment before its end. */
export function until(calls: SocketCalls, fd: number, events = POLLIN): number {
  const entry = { fd, events, revents: 0 };
  const untraced = calls instanceof TracedCalls ? calls.inner : calls;
  for (let left = WAIT_MS; left > 0 && (entry.revents & events) === 0; ) {
    const started = performance.now();
    if (untraced.poll([entry], left) !== 1) break;
    left -= Math.max(performance.now() - started, 1);
  }
  calls.poll([entry], WAIT_MS);
  return entry.revents;
}

/** Waits, then receives with room for everything. */
export function take(calls: SocketCalls, fd: number, flags = 0, room = 2048): number {
  until(calls, fd);
  return calls.recvfrom(fd, new Uint8Array(room), flags | MSG_DONTWAIT, addressBuffer());
}

/** Waits until all is there that the peer's socket has sent before: what it sends last comes last. */
export function arrived(stage: Stage, family: IpFamily, other: number): void {
  const last = bound(stage, family, LAST_PORT);
  stage.peer.sendto(other, text("the last"), 0, own(stage, family, LAST_PORT));
  until(stage.calls, last);
  stage.calls.close(last);
}

/** Waits until what was sent has arrived, so that nothing of it comes to the next scenario. */
export function delivered(stage: Stage, family: IpFamily): void {
  const last = peerOf(stage, family, LAST_PORT);
  const from = bound(stage, family, LAST_PORT);
  stage.calls.sendto(from, text("the last"), 0, remote(stage, family, LAST_PORT));
  until(stage.peer, last);
  stage.calls.close(from);
  stage.peer.close(last);
}

/** A message to receive into. */
export function room(length = 2048, control = 512): Message {
  return {
    ...messageOf(new Uint8Array(length)),
    name: addressBuffer(),
    control: control > 0 ? new Uint8Array(control) : null,
  };
}

/** Waits, then receives with control messages. */
export function takeMessage(calls: SocketCalls, fd: number, flags = 0, into = room()): number {
  until(calls, fd);
  return calls.recvmsg(fd, into, flags | MSG_DONTWAIT);
}

/** A message to send with control messages. */
export function withControl(data: Uint8Array, to: Uint8Array | null, ...controls: ControlMessage[]): Message {
  const control = encodeControl(...controls);
  return { ...messageOf(data), name: nameOf(to), control, controlLength: control.length };
}

export const setInt = (calls: SocketCalls, fd: number, level: number, name: number, value: number): number =>
  calls.setsockopt(fd, level, name, controlInt(value));

export const getInt = (calls: SocketCalls, fd: number, level: number, name: number): number =>
  calls.getsockopt(fd, level, name, new Uint8Array(4));

export const names = (calls: SocketCalls, fd: number): void => {
  calls.getsockname(fd, addressBuffer());
  calls.getpeername(fd, addressBuffer());
};

/** A scenario of each family. */
export const each = (name: string, play: (stage: Stage, family: IpFamily) => void): InetScenario[] =>
  FAMILIES.map((family) => ({
    name: `IPv${family}: ${name}`,
    play: (stage: Stage) => play(stage, family),
  }));
