/**
 * Numbers of the two capture formats.
 *
 *   pcap    a file header, then records (draft-ietf-opsawg-pcap)
 *   pcapng  blocks: type, total length, body, total length again (draft-ietf-opsawg-pcapng)
 */

/** First word of a pcap file, in its writer's byte order; the time stamps count micro- or nanoseconds. */
export const PCAP_MAGIC_MICROSECONDS = 0xa1b2c3d4;
export const PCAP_MAGIC_NANOSECONDS = 0xa1b23c4d;
export const PCAP_HEADER_BYTES = 24;
export const PCAP_RECORD_BYTES = 16;

/** Block types of pcapng. The section header's reads the same in both byte orders. */
export const SECTION_HEADER = 0x0a0d0d0a;
export const INTERFACE_DESCRIPTION = 1;
/** Obsolete, still in old files: an enhanced packet with a count of drops. */
export const PACKET = 2;
export const SIMPLE_PACKET = 3;
export const INTERFACE_STATISTICS = 5;
export const ENHANCED_PACKET = 6;

/** Says a section's byte order. */
export const BYTE_ORDER_MAGIC = 0x1a2b3c4d;
/** Type and total length before a block's body, total length after it. */
export const BLOCK_OVERHEAD = 12;

export const OPT_END = 0;
export const OPT_COMMENT = 1;
export const SHB_OS = 3;
export const SHB_USERAPPL = 4;
export const IF_NAME = 2;
export const IF_DESCRIPTION = 3;
export const IF_TSRESOL = 9;
export const IF_FILTER = 11;
export const IF_TSOFFSET = 14;
export const ISB_STARTTIME = 2;
export const ISB_ENDTIME = 3;
export const ISB_IFRECV = 4;
export const ISB_IFDROP = 5;
export const ISB_FILTERACCEPT = 6;
export const ISB_USRDELIV = 8;
export const EPB_FLAGS = 2;

/** Direction in the low bits of EPB_FLAGS. */
export const DIRECTION_UNKNOWN = 0;
export const INBOUND = 1;
export const OUTBOUND = 2;
export type Direction = typeof DIRECTION_UNKNOWN | typeof INBOUND | typeof OUTBOUND;

export const LINKTYPE_ETHERNET = 1;

/** The longest packet that is believed, bytes: MAXIMUM_SNAPLEN of libpcap. What says more is damaged. */
export const PACKET_MAX = 262_144;

/** What else captures have, by the names of tcpdump.org/linktypes.html. */
const LINKTYPES: Record<number, string> = {
  0: "NULL",
  9: "PPP",
  12: "RAW",
  101: "RAW",
  105: "IEEE802_11",
  108: "LOOP",
  113: "LINUX_SLL",
  127: "IEEE802_11_RADIOTAP",
  189: "USB_LINUX",
  220: "USB_LINUX_MMAPPED",
  228: "IPV4",
  229: "IPV6",
  253: "NETLINK",
  276: "LINUX_SLL2",
};

/** "LINUX_SLL (113)". */
export function linkTypeName(type: number): string {
  const name = LINKTYPES[type];
  return name === undefined ? `link type ${type}` : `${name} (link type ${type})`;
}

/** A capture file that cannot be read, or is damaged: what is wrong, and at which byte. */
export class CaptureFileError extends Error {
  override readonly name = "CaptureFileError";
}
