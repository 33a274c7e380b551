/** ARP for IPv4 over Ethernet (RFC 826). */
import { ETH_ADDRESS, ETH_P_IP } from "./ethernet.ts";
import { readInt32, readUint16, writeInt32, writeUint16 } from "./views.ts";

/** Field offsets in bytes from the packet's start. */
export const ARP_HARDWARE = 0;
export const ARP_PROTOCOL = 2;
export const ARP_HARDWARE_LENGTH = 4;
export const ARP_PROTOCOL_LENGTH = 5;
export const ARP_OPERATION = 6;
export const ARP_SENDER_MAC = 8;
export const ARP_SENDER_IP = 14;
export const ARP_TARGET_MAC = 18;
export const ARP_TARGET_IP = 24;
/** Bytes of a packet. */
export const ARP_LENGTH = 28;

export const ARPHRD_ETHER = 1;
export const ARPOP_REQUEST = 1;
export const ARPOP_REPLY = 2;

/**
 * The door: true when the packet at `arp` is whole and speaks of IPv4 over Ethernet. Every accessor here may then be
 * called.
 * @param length bytes from `arp` to the end of the frame
 */
export function checkArp(bytes: Uint8Array, arp: number, length: number): boolean {
  return (
    length >= ARP_LENGTH &&
    readUint16(bytes, arp + ARP_HARDWARE) === ARPHRD_ETHER &&
    readUint16(bytes, arp + ARP_PROTOCOL) === ETH_P_IP &&
    bytes[arp + ARP_HARDWARE_LENGTH] === ETH_ADDRESS &&
    bytes[arp + ARP_PROTOCOL_LENGTH] === 4
  );
}

/** ARPOP_REQUEST, ARPOP_REPLY, or an operation to ignore. */
export function arpOperation(bytes: Uint8Array, arp: number): number {
  return readUint16(bytes, arp + ARP_OPERATION);
}

/** Sender's IPv4 address as an int32; 0 in a probe (RFC 5227). */
export function arpSenderIp(bytes: Uint8Array, arp: number): number {
  return readInt32(bytes, arp + ARP_SENDER_IP);
}

export function arpTargetIp(bytes: Uint8Array, arp: number): number {
  return readInt32(bytes, arp + ARP_TARGET_IP);
}

/** Writes a packet. MAC addresses are six bytes; a request's target MAC is not looked at and is usually zero. */
export function writeArp(
  bytes: Uint8Array,
  arp: number,
  operation: number,
  senderMac: Uint8Array,
  senderIp: number,
  targetMac: Uint8Array,
  targetIp: number,
): void {
  writeUint16(bytes, arp + ARP_HARDWARE, ARPHRD_ETHER);
  writeUint16(bytes, arp + ARP_PROTOCOL, ETH_P_IP);
  bytes[arp + ARP_HARDWARE_LENGTH] = ETH_ADDRESS;
  bytes[arp + ARP_PROTOCOL_LENGTH] = 4;
  writeUint16(bytes, arp + ARP_OPERATION, operation);
  for (let i = 0; i < ETH_ADDRESS; i++) {
    bytes[arp + ARP_SENDER_MAC + i] = senderMac[i];
    bytes[arp + ARP_TARGET_MAC + i] = targetMac[i];
  }
  writeInt32(bytes, arp + ARP_SENDER_IP, senderIp);
  writeInt32(bytes, arp + ARP_TARGET_IP, targetIp);
}
