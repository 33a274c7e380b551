/**
 * Every option a socket has, by level and number. What is not here is refused with ENOPROTOOPT, beside a kernel too: an
 * option that the packet path does not obey must not be taken.
 */
import { FILTER_OPTIONS } from "./filters.ts";
import { IP_LEVEL } from "./ip-level.ts";
import { IPV6_LEVEL } from "./ipv6-level.ts";
import { SOCKET_LEVEL } from "./socket-level.ts";
import { UDP_LEVEL } from "./udp-level.ts";
import type { UdpOption } from "./udp-target.ts";

export const OPTIONS: readonly UdpOption[] = [
  ...SOCKET_LEVEL,
  ...FILTER_OPTIONS,
  ...IP_LEVEL,
  ...IPV6_LEVEL,
  ...UDP_LEVEL,
];

const NAME_BITS = 16;
const byNumber = new Map(OPTIONS.map((entry) => [(entry.level << NAME_BITS) | entry.name, entry]));

export function findOption(level: number, name: number): UdpOption | undefined {
  // What has no place in the key is no option.
  return level >>> 0 < 1 << NAME_BITS && name >>> 0 < 1 << NAME_BITS
    ? byNumber.get((level << NAME_BITS) | name)
    : undefined;
}

/** As in the header, or the numbers: for messages. */
export function optionLabel(level: number, name: number): string {
  return findOption(level, name)?.label ?? `${level}, ${name}`;
}
