/** A UDP socket as options see it. */
import type { SocketGroups } from "../group-request.ts";
import type { UdpSocket } from "../udp-socket.ts";
import type { Option, OptionPart, OptionTarget } from "./rules.ts";

export interface UdpTarget extends OptionTarget {
  readonly socket: UdpSocket;
  /** For whoever reads the error: what is wrong with the value. */
  hint: string;
  /** Its multicast groups, where the engine has the host protocols. */
  readonly groups: SocketGroups;
  /** Has everything this socket sends go by the placeholder as long as `wanted` holds for one option or another. */
  needKernel(option: UdpOption, wanted: boolean): void;
}

export type UdpOption = Option<UdpTarget>;
export type UdpPart = OptionPart<UdpTarget>;
