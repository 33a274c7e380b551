/**
 * Generic netlink: families are found by name and spoken to by number.
 *
 * Layouts: include/uapi/linux/genetlink.h, Linux 6.18.
 */
import { ERRNO, SysError } from "af-xdp-bindings";
import {
  type Attributes,
  attributeString,
  concat,
  NETLINK_GENERIC,
  type NetlinkMessage,
  NetlinkSocket,
  parseAttributes,
  uint,
} from "./netlink.ts";

/** GENL_ID_CTRL = NLMSG_MIN_TYPE: the controller that knows the other families. */
const GENL_ID_CTRL = 16;
const CTRL_CMD_GETFAMILY = 3;
const CTRL_ATTR_FAMILY_ID = 1;
const CTRL_ATTR_FAMILY_NAME = 2;
const CTRL_VERSION = 2;
/** struct genlmsghdr { u8 cmd, version; u16 reserved } */
const GENL_HDRLEN = 4;

/** One generic-netlink family of the namespace the thread is in when this is constructed. */
export class GenericFamily {
  private readonly socket: NetlinkSocket;
  private readonly name: string;
  private readonly version: number;
  private readonly id: number;

  /** Throws SysError ENOENT when the kernel has no family of this name. */
  constructor(name: string, version: number) {
    this.name = name;
    this.version = version;
    this.socket = new NetlinkSocket(NETLINK_GENERIC);
    try {
      this.id = this.resolve();
    } catch (error) {
      this.socket.close();
      throw error;
    }
  }

  /** One command; the attributes of each answer. */
  request(what: string, command: number, ...attributes: Uint8Array[]): Attributes[] {
    return this.socket.request(`${this.name} ${what}`, this.id, 0, this.body(command, attributes)).map(attributesOf);
  }

  /** The attributes of each object a command lists. */
  dump(what: string, command: number, ...attributes: Uint8Array[]): Attributes[] {
    return this.socket.dump(`${this.name} ${what}`, this.id, this.body(command, attributes)).map(attributesOf);
  }

  close(): void {
    this.socket.close();
  }

  private body(command: number, attributes: Uint8Array[]): Uint8Array {
    return concat(Uint8Array.of(command, this.version, 0, 0), ...attributes);
  }

  private resolve(): number {
    const header = Uint8Array.of(CTRL_CMD_GETFAMILY, CTRL_VERSION, 0, 0);
    const body = concat(header, attributeString(CTRL_ATTR_FAMILY_NAME, this.name));
    const [answer] = this.socket.request(`generic netlink family "${this.name}"`, GENL_ID_CTRL, 0, body);
    if (answer === undefined) throw new SysError(ERRNO.ENOENT, `generic netlink family "${this.name}"`);
    return uint(attributesOf(answer), CTRL_ATTR_FAMILY_ID);
  }
}

const attributesOf = (message: NetlinkMessage): Attributes => parseAttributes(message.payload, GENL_HDRLEN);
