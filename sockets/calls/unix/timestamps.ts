/** Times of arrival, for sockets with SO_TIMESTAMP or its kin: __sock_recv_timestamp(), net/socket.c. */
import { sys } from "af-xdp-bindings";
import { SO_TIMESTAMPNS, SO_TIMESTAMPNS_NEW, SOL_SOCKET } from "../../options.ts";
import type { ControlWriter } from "../control.ts";
import type { Packet } from "./packet.ts";

const CLOCK_REALTIME = 0;
const NANOSECONDS_PER_MICROSECOND = 1000;

const clock = new BigInt64Array(2);

export function stampNow(packet: Packet): void {
  sys.sys3(sys.SYS.clock_gettime, CLOCK_REALTIME, sys.addressOf(clock), 0);
  packet.seconds = Number(clock[0]);
  packet.nanoseconds = Number(clock[1]);
}

/** Tells when a message came; one that came before anybody asked is told to come now. @param option the one that asks */
export function putTimestamp(writer: ControlWriter, option: number, packet: Packet): void {
  if (packet.seconds === 0) stampNow(packet);
  const { seconds, nanoseconds } = packet;
  const fine = option === SO_TIMESTAMPNS || option === SO_TIMESTAMPNS_NEW;
  const part = fine ? nanoseconds : Math.floor(nanoseconds / NANOSECONDS_PER_MICROSECOND);
  // The control message has the option's number.
  writer.put(SOL_SOCKET, option, new Uint8Array(BigInt64Array.of(BigInt(seconds), BigInt(part)).buffer));
}
