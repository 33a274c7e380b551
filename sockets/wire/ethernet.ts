/** Ethernet II frames (IEEE 802.3) with up to two VLAN tags (IEEE 802.1Q, 802.1ad). */
import { readUint16 } from "./views.ts";

/** Field offsets in bytes from the frame's start. */
export const ETH_DST = 0;
export const ETH_SRC = 6;
export const ETH_TYPE = 12;
/** Bytes of the header without tags. */
export const ETH_HEADER = 14;
export const ETH_ADDRESS = 6;
/** Bytes of a VLAN tag: TPID and TCI. */
export const VLAN_TAG = 4;
/** The shortest frame that a NIC sends, without FCS; the rest is padded. */
export const ETH_FRAME_MIN = 60;

/** The address of all stations. */
export const ETH_BROADCAST = new Uint8Array(ETH_ADDRESS).fill(0xff);

/** EtherTypes (include/uapi/linux/if_ether.h). */
export const ETH_P_IP = 0x0800;
export const ETH_P_ARP = 0x0806;
export const ETH_P_8021Q = 0x8100;
export const ETH_P_IPV6 = 0x86dd;
export const ETH_P_8021AD = 0x88a8;
/** Below this the field is an IEEE 802.3 length. */
const ETH_P_802_3_MIN = 0x0600;

/** The frame ends inside its headers. */
export const ETH_RUNT = -1;
/** IEEE 802.3 with a length field, not Ethernet II. */
export const ETH_LLC = -2;

/**
 * The door: where the network header begins, past at most two tags, or ETH_RUNT or ETH_LLC. The EtherType is then
 * etherType(); after two tags it may be that of a third, and the frame is of no known protocol.
 * @param frame offset of the frame's first byte
 * @param length bytes of the frame
 */
export function networkOffset(bytes: Uint8Array, frame: number, length: number): number {
  if (length < ETH_HEADER) return ETH_RUNT;
  const type = readUint16(bytes, frame + ETH_TYPE);
  if (type === ETH_P_8021Q || type === ETH_P_8021AD) return taggedOffset(bytes, frame, length);
  return type < ETH_P_802_3_MIN ? ETH_LLC : frame + ETH_HEADER;
}

function taggedOffset(bytes: Uint8Array, frame: number, length: number): number {
  if (length < ETH_HEADER + VLAN_TAG) return ETH_RUNT;
  let network = frame + ETH_HEADER + VLAN_TAG;
  const inner = readUint16(bytes, network - 2);
  if (inner === ETH_P_8021Q || inner === ETH_P_8021AD) {
    if (length < ETH_HEADER + 2 * VLAN_TAG) return ETH_RUNT;
    network += VLAN_TAG;
  }
  return readUint16(bytes, network - 2) < ETH_P_802_3_MIN ? ETH_LLC : network;
}

/** EtherType of the network header at `network`: it is in the two bytes before, with tags or without. */
export function etherType(bytes: Uint8Array, network: number): number {
  return readUint16(bytes, network - 2);
}

/** VLAN identifier 0..4095 of the outermost tag; the frame has one when networkOffset() is past ETH_HEADER. */
export function vlanId(bytes: Uint8Array, frame: number): number {
  return readUint16(bytes, frame + ETH_HEADER) & 0xfff;
}

/** True for a group address: multicast or broadcast. */
export function isGroupAddress(bytes: Uint8Array, address: number): boolean {
  return (bytes[address] & 1) !== 0;
}

/** Writes an untagged header from two addresses of six bytes. */
export function writeEthernet(
  bytes: Uint8Array,
  frame: number,
  destination: Uint8Array,
  source: Uint8Array,
  type: number,
): void {
  for (let i = 0; i < ETH_ADDRESS; i++) {
    bytes[frame + ETH_DST + i] = destination[i];
    bytes[frame + ETH_SRC + i] = source[i];
  }
  bytes[frame + ETH_TYPE] = type >>> 8;
  bytes[frame + ETH_TYPE + 1] = type;
}
