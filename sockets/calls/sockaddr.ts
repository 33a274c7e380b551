/**
 * Socket addresses as bytes and as objects: struct sockaddr_in, sockaddr_in6, sockaddr_un and sockaddr_ll, and what fits them all,
 * struct sockaddr_storage (include/uapi/linux/{in,in6,un,if_packet,socket}.h). Numbers of more than a byte are in network order
 * where the header says so (ports, addresses, flow labels, the protocol of sockaddr_ll), else in the machine's.
 */
import { formatIp, ip } from "../wire/address.ts";
import { AF_INET, AF_INET6, AF_PACKET, AF_UNIX, AF_UNSPEC } from "./constants.ts";

/** sizeof(struct sockaddr_storage): room for every address. */
export const SOCKADDR_STORAGE_BYTES = 128;
const SOCKADDR_IN_BYTES = 16;
const SOCKADDR_IN6_BYTES = 28;
const SUN_PATH = 2;
const SUN_PATH_BYTES = 108;
/** sll_addr follows it: 8 bytes, or more for links with longer addresses. */
const SLL_ADDRESS = 12;
const SLL_ADDRESS_BYTES = 8;

/** A socket address in words. */
export type SocketAddress =
  | { readonly family: typeof AF_UNSPEC }
  | { readonly family: typeof AF_INET; readonly address: string; readonly port: number }
  | {
      readonly family: typeof AF_INET6;
      readonly address: string;
      readonly port: number;
      /** Traffic class and flow label, 28 bits. */
      readonly flowInfo?: number;
      /** Interface index of a link-local address. */
      readonly scopeId?: number;
    }
  | {
      readonly family: typeof AF_UNIX;
      /** A path; "\0name" for an abstract name, each of its characters a byte; "" for a socket without a name. */
      readonly path: string;
    }
  | {
      readonly family: typeof AF_PACKET;
      /** EtherType, 0x0800, say; ETH_P_ALL is 3. */
      readonly protocol: number;
      readonly interfaceIndex: number;
      /** ARPHRD_: 1 for Ethernet. */
      readonly hardwareType?: number;
      /** PACKET_HOST 0, BROADCAST 1, MULTICAST 2, OTHERHOST 3, OUTGOING 4. */
      readonly packetType?: number;
      /** Address of the link layer, up to 8 bytes. */
      readonly hardwareAddress?: Uint8Array;
    };

/** The bytes of an address, as long as the calls take them. Throws RangeError for a text or number that none has. */
export function encodeAddress(address: SocketAddress): Uint8Array {
  switch (address.family) {
    case AF_UNSPEC:
      return new Uint8Array(SOCKADDR_IN_BYTES);
    case AF_INET: {
      const view = ofFamily(AF_INET, SOCKADDR_IN_BYTES);
      view.setUint16(2, whole("port", address.port, 0xffff));
      put(view, 4, bytesOf(address.address, 4));
      return bytes(view);
    }
    case AF_INET6: {
      const view = ofFamily(AF_INET6, SOCKADDR_IN6_BYTES);
      view.setUint16(2, whole("port", address.port, 0xffff));
      view.setUint32(4, whole("flowInfo", address.flowInfo ?? 0, 0xfff_ffff));
      put(view, 8, bytesOf(address.address, 16));
      view.setUint32(24, whole("scopeId", address.scopeId ?? 0, 0xffff_ffff), true);
      return bytes(view);
    }
    case AF_UNIX:
      return encodeUnix(address.path);
    case AF_PACKET: {
      const hardware = address.hardwareAddress ?? new Uint8Array(0);
      if (hardware.length > SLL_ADDRESS_BYTES)
        throw new RangeError(`hardwareAddress: ${hardware.length} bytes, 8 at most`);
      const view = ofFamily(AF_PACKET, SLL_ADDRESS + SLL_ADDRESS_BYTES);
      view.setUint16(2, whole("protocol", address.protocol, 0xffff));
      view.setInt32(4, whole("interfaceIndex", address.interfaceIndex, 0x7fff_ffff), true);
      view.setUint16(8, whole("hardwareType", address.hardwareType ?? 0, 0xffff), true);
      view.setUint8(10, whole("packetType", address.packetType ?? 0, 0xff));
      view.setUint8(11, hardware.length);
      put(view, SLL_ADDRESS, hardware);
      return bytes(view);
    }
  }
}

/**
 * What the first `length` bytes of a buffer (a sockaddr_storage, say) say. Null where they are too few for their family, or the
 * family is another one.
 */
export function decodeAddress(storage: Uint8Array, length = storage.length): SocketAddress | null {
  const used = Math.min(length, storage.length);
  if (used < 2) return null;
  const view = new DataView(storage.buffer, storage.byteOffset, used);
  const part = (from: number, to: number): Uint8Array => storage.subarray(from, Math.min(to, used));
  switch (view.getUint16(0, true)) {
    case AF_UNSPEC:
      return { family: AF_UNSPEC };
    case AF_INET:
      if (used < SOCKADDR_IN_BYTES) return null;
      return { family: AF_INET, address: formatIp(part(4, 8)), port: view.getUint16(2) };
    case AF_INET6:
      if (used < SOCKADDR_IN6_BYTES) return null;
      return {
        family: AF_INET6,
        address: formatIp(part(8, 24)),
        port: view.getUint16(2),
        flowInfo: view.getUint32(4),
        scopeId: view.getUint32(24, true),
      };
    case AF_UNIX:
      return { family: AF_UNIX, path: decodeUnix(part(SUN_PATH, SUN_PATH + SUN_PATH_BYTES + 1)) };
    case AF_PACKET:
      if (used < SLL_ADDRESS) return null;
      return {
        family: AF_PACKET,
        protocol: view.getUint16(2),
        interfaceIndex: view.getInt32(4, true),
        hardwareType: view.getUint16(8, true),
        packetType: view.getUint8(10),
        hardwareAddress: part(SLL_ADDRESS, SLL_ADDRESS + view.getUint8(11)).slice(),
      };
    default:
      return null;
  }
}

function encodeUnix(path: string): Uint8Array {
  const abstract = path.startsWith("\0");
  if (!abstract && path.includes("\0")) throw new RangeError("path: a null byte ends it");
  const name = abstract
    ? Uint8Array.from(path, (character) => character.charCodeAt(0))
    : new TextEncoder().encode(path);
  if (name.length > SUN_PATH_BYTES) throw new RangeError(`path: ${name.length} bytes, ${SUN_PATH_BYTES} at most`);
  // A path is ended by a null byte where there is room for one, as SUN_LEN() + 1 has it.
  const terminator = abstract || name.length === 0 || name.length === SUN_PATH_BYTES ? 0 : 1;
  const view = ofFamily(AF_UNIX, SUN_PATH + name.length + terminator);
  put(view, SUN_PATH, name);
  return bytes(view);
}

function decodeUnix(name: Uint8Array): string {
  if (name.length > 0 && name[0] === 0) return String.fromCharCode(...name);
  const end = name.indexOf(0);
  return new TextDecoder().decode(end < 0 ? name : name.subarray(0, end));
}

function ofFamily(family: number, length: number): DataView {
  const view = new DataView(new ArrayBuffer(length));
  view.setUint16(0, family, true);
  return view;
}

const bytes = (view: DataView): Uint8Array => new Uint8Array(view.buffer);
const put = (view: DataView, at: number, from: Uint8Array): void => new Uint8Array(view.buffer).set(from, at);

function bytesOf(text: string, length: number): Uint8Array {
  const address = ip(text);
  if (address.length !== length) throw new RangeError(`address ${text}: of ${length} bytes is wanted`);
  return address;
}

function whole(name: string, value: number, most: number): number {
  if (!Number.isInteger(value) || value < 0 || value > most) {
    throw new RangeError(`${name} ${value}: a whole number from 0 to ${most}`);
  }
  return value;
}
