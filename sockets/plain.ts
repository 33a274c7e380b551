/**
 * The plain frame: untagged Ethernet, IPv4 without options, UDP. Nearly all traffic is; Input and Output have a straight
 * way for it. Offsets from the frame's first byte.
 */
import { ETH_HEADER } from "./wire/ethernet.ts";
import { IPV4_HEADER } from "./wire/ipv4.ts";
import { UDP_HEADER } from "./wire/udp.ts";

export const PLAIN_IP = ETH_HEADER;
export const PLAIN_UDP = PLAIN_IP + IPV4_HEADER;
export const PLAIN_PAYLOAD = PLAIN_UDP + UDP_HEADER;
