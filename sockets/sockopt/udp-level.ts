/** SOL_UDP: udp_lib_setsockopt and udp_lib_getsockopt, net/ipv4/udp.c. udp(7). */
import { ERRNO } from "af-xdp-bindings";
import { SOL_UDP, UDP_CORK, UDP_ENCAP, UDP_GRO, UDP_NO_CHECK6_RX, UDP_NO_CHECK6_TX, UDP_SEGMENT } from "../options.ts";
import { TX_NO_CHECK, TX_SEGMENT, withFlag } from "../send-word.ts";
import { F_CHILD, F_NO_CHECK6, FLAGS, SEGMENT } from "../table.ts";
import { changeSendWord, KERNEL_SENDS, sendFlag, tableFlag } from "./effects.ts";
import { ENGINE, flag, OF_FLOW, option, ranged, readInt } from "./rules.ts";
import type { UdpOption, UdpPart, UdpTarget } from "./udp-target.ts";

/** USHRT_MAX: the most UDP_SEGMENT takes. */
const SEGMENT_MAX = 65535;

const INT_BYTES = 4;
/** UDP_ENCAP_ESPINUDP, _L2TPINUDP. */
const TUNNELS = new Set([2, 3]);

const udp = (name: number, label: string, ...parts: UdpPart[]): UdpOption => option(SOL_UDP, name, label, ...parts);

/** Where a kernel socket receives for a socket and its flows, it coalesces for all of them or none. */
const refusedToFlow = (_value: number, { socket }: UdpTarget): number => {
  const { sendsItself, table } = socket.endpoint;
  return sendsItself || (table.get(socket.id, FLAGS) & F_CHILD) === 0 ? 0 : -ERRNO.EOPNOTSUPP;
};

export const UDP_LEVEL: readonly UdpOption[] = [
  udp(UDP_CORK, "UDP_CORK", KERNEL_SENDS),
  // Tunnels are the kernel's: it would take the datagrams out of them.
  udp(UDP_ENCAP, "UDP_ENCAP", ENGINE, ranged(0, 0), {
    set(_target, bytes) {
      if (bytes.length < INT_BYTES) return -ERRNO.EINVAL;
      const value = readInt(bytes, SOL_UDP);
      if (value === 0) return 0;
      return TUNNELS.has(value) ? -ERRNO.EOPNOTSUPP : -ERRNO.ENOPROTOOPT;
    },
  }),
  udp(UDP_NO_CHECK6_TX, "UDP_NO_CHECK6_TX", flag(), sendFlag(6, TX_NO_CHECK)),
  udp(UDP_NO_CHECK6_RX, "UDP_NO_CHECK6_RX", flag(), tableFlag(F_NO_CHECK6)),
  udp(UDP_SEGMENT, "UDP_SEGMENT", OF_FLOW, ranged(0, SEGMENT_MAX), {
    initial: ({ socket }) => socket.endpoint.table.get(socket.id, SEGMENT),
    effect(target, value) {
      target.socket.segmentSends(value);
      changeSendWord(target, 0, (word) => withFlag(word, TX_SEGMENT, value !== 0));
    },
  }),
  udp(UDP_GRO, "UDP_GRO", ENGINE, flag({ check: refusedToFlow }), {
    initial: ({ socket }) => Number(socket.coalesces),
    effect: (target, value) => target.socket.coalesce(value !== 0),
  }),
];
