/**
 * The steering program: redirects a frame to its queue's XSK if it is for a bound (protocol, address, port) of this
 * host, and passes everything else to the kernel. It drops nothing and changes no byte of a frame.
 *
 * The way of a frame: Ethernet, up to two VLAN tags → destination MAC → IP header → port flags → destination address
 * → (stamp) → XSKMAP; each way out counts itself. The MAC comes before the port because a host that forwards gets
 * frames for its MAC with addresses not its own, and the address comes last because only a matching port needs it.
 *
 * A tag that was taken off a frame before XDP is invisible here, and the frame looks untagged: hardware with
 * rx-vlan-offload on, in both modes; on veth the sender's tx-vlan-offload (its default), in both modes, whatever the
 * receiver's setting. Whoever attaches turns these off (`ethtool -K … rxvlan off`, on a veth peer `txvlan off`).
 *
 * Registers kept throughout: r6 the context, r7 the IP header, r8 the transport header, r9 the flags that matched.
 */
import {
  Assembler,
  type MapReference,
  r0,
  r1,
  r2,
  r3,
  r4,
  r5,
  r6,
  r7,
  r8,
  r9,
  r10,
  XDP_MD,
  XDP_PASS,
  XDP_REDIRECT,
} from "af-xdp-bindings";
import {
  BOUND,
  COUNTERS,
  type CounterName,
  type Family,
  HOST,
  INLINE_LOCALS,
  IPPROTO_TCP,
  IPPROTO_UDP,
  METADATA,
  METADATA_MAGIC,
  OVERFLOW_V4,
  OVERFLOW_V6,
  PORT,
  STAMP,
  V4_ADDRESS,
  V4_ANY,
  V6_ADDRESS,
  V6_ANY,
} from "./layout.ts";

export interface SteeringMaps {
  readonly xskmap: MapReference;
  readonly host: MapReference;
  readonly ports: MapReference;
  readonly bound: MapReference;
  readonly locals: MapReference;
  readonly counters: MapReference;
}

/** A 16-bit constant of the wire as a little-endian load sees it. */
const net16 = (value: number): number => ((value & 0xff) << 8) | (value >> 8);

/** Bit of a MAC address's first byte that says multicast or broadcast. */
const GROUP_BIT = 1;
const ETH_TYPE = 12;
const ETH_SIZE = 14;
const VLAN_SIZE = 4;
const ETH_P_IP = 0x0800;
const ETH_P_IPV6 = 0x86dd;
const ETH_P_8021Q = 0x8100;
const ETH_P_8021AD = 0x88a8;

const IP4 = { fragment: 6, protocol: 9, destination: 16, size: 20 } as const;
/** More-fragments flag and fragment offset. */
const IP4_FRAGMENT_MASK = 0x3fff;
const IP6 = { nextHeader: 6, destination: 24, size: 40 } as const;
const NEXTHDR_FRAGMENT = 44;

/** UDP's header, and of TCP's the part that holds the ports. */
const TRANSPORT = { destinationPort: 2, size: 8 } as const;

/** Stack, relative to r10: the key of `bound`, which begins with the key of `locals`; then a u32 index. */
const STACK_BOUND = -32;
const STACK_ADDRESS = STACK_BOUND + BOUND.address;
const STACK_INDEX = -8;

/** Appends the program to `code`, which may be a prologue that leaves the context in r1. */
export function steeringCode(maps: SteeringMaps, code = new Assembler()): Assembler {
  return code
    .mov(r6, r1)
    .include(ethernet)
    .include((c) => ipv4(c, maps))
    .include((c) => ipv6(c, maps))
    .include((c) => redirect(c, maps))
    .include((c) => verdict(c, maps, PASSES));
}

/**
 * The program of an interface that the engine has for itself: everything for its MAC address and for groups is redirected,
 * with the time of arrival. What is for other stations passes.
 */
export function dedicatedCode(maps: SteeringMaps, code = new Assembler()): Assembler {
  return code
    .mov(r6, r1)
    .load32(r2, r6, XDP_MD.data)
    .load32(r3, r6, XDP_MD.data_end)
    .mov(r7, r2)
    .add(r7, ETH_SIZE)
    .jgt(r7, r3, "passMalformed")
    .mov(r9, STAMP)
    .load8(r4, r2)
    .jset(r4, GROUP_BIT, "redirect")
    .include((c) => ownMac(c, maps))
    .include((c) => redirect(c, maps))
    .include((c) => verdict(c, maps, ["passNotHost", "passMalformed"]));
}

/** Jumps to v4 or v6 with r2 the frame, r3 its end, r7 the IP header. */
function ethernet(code: Assembler): void {
  code
    .load32(r2, r6, XDP_MD.data)
    .load32(r3, r6, XDP_MD.data_end)
    .mov(r7, r2)
    .add(r7, ETH_SIZE)
    .jgt(r7, r3, "passMalformed")
    .load16(r4, r2, ETH_TYPE)
    .jeq(r4, net16(ETH_P_IP), "v4")
    .jeq(r4, net16(ETH_P_IPV6), "v6");
  for (let tag = 0; tag < 2; tag++) {
    code
      .jeq(r4, net16(ETH_P_8021Q), `tag${tag}`)
      .jne(r4, net16(ETH_P_8021AD), "passNotIp")
      .label(`tag${tag}`)
      .add(r7, VLAN_SIZE)
      .jgt(r7, r3, "passMalformed")
      .load16(r4, r7, -2)
      .jeq(r4, net16(ETH_P_IP), "v4")
      .jeq(r4, net16(ETH_P_IPV6), "v6");
  }
  code.jump("passNotIp");
}

function ipv4(code: Assembler, maps: SteeringMaps): void {
  code
    .label("v4")
    .include((c) => ownMac(c, maps))
    .mov(r8, r7)
    .add(r8, IP4.size)
    .jgt(r8, r3, "passMalformed")
    .load8(r4, r7)
    .jne(r4, 0x45, "v4Options")
    .label("v4Transport")
    .load16(r4, r7, IP4.fragment)
    .jset(r4, net16(IP4_FRAGMENT_MASK), "passFragment")
    .load8(r4, r7, IP4.protocol)
    .include((c) => portFlags(c, maps, 4))
    .jset(r9, V4_ADDRESS, "v4Bound")
    .label("v4Any")
    .jset(r9, V4_ANY, "v4Locals")
    .jump("passNoMatch")
    .label("v4Locals")
    .load32(r4, r7, IP4.destination)
    .mapValue(r1, maps.host);
  for (let i = 0; i < INLINE_LOCALS; i++) code.load64(r5, r1, HOST.v4 + 8 * i).jeq(r5, r4, "redirect");
  code
    .load16(r5, r1, HOST.overflow)
    .jset(r5, OVERFLOW_V4, "v4Overflow")
    .jump("passNotHost")

    .label("v4Overflow")
    .include(v4Address)
    .include((c) => inLocals(c, maps))

    .label("v4Bound")
    .load32(r4, r7, IP4.destination)
    .load64(r5, r0, PORT.v4)
    .jeq(r4, r5, "deliver")
    .include(v4Address)
    .load8(r4, r7, IP4.protocol)
    .include((c) => isBound(c, maps, 4))

    // Header length in words, of a header longer than 20 bytes.
    .label("v4Options")
    .mov(r5, r4)
    .rsh(r5, 4)
    .jne(r5, 4, "passMalformed")
    .and(r4, 15)
    .jlt(r4, 5, "passMalformed")
    .lsh(r4, 2)
    .mov(r8, r7)
    .add(r8, r4)
    .jgt(r8, r3, "passMalformed")
    .jump("v4Transport");
}

function ipv6(code: Assembler, maps: SteeringMaps): void {
  code
    .label("v6")
    .include((c) => ownMac(c, maps))
    .mov(r8, r7)
    .add(r8, IP6.size)
    .jgt(r8, r3, "passMalformed")
    .load8(r4, r7)
    .rsh(r4, 4)
    .jne(r4, 6, "passMalformed")
    .load8(r4, r7, IP6.destination)
    .jeq(r4, 0xff, "passNotHost")
    .load8(r4, r7, IP6.nextHeader)
    .jeq(r4, NEXTHDR_FRAGMENT, "passFragment")
    .include((c) => portFlags(c, maps, 6))
    .jset(r9, V6_ADDRESS, "v6Bound")
    .label("v6Any")
    .jset(r9, V6_ANY, "v6Locals")
    .jump("passNoMatch")
    .label("v6Locals")
    .load64(r4, r7, IP6.destination)
    .load64(r5, r7, IP6.destination + 8)
    .mapValue(r1, maps.host);
  for (let i = 0; i < INLINE_LOCALS; i++) {
    code
      .load64(r2, r1, HOST.v6 + 16 * i)
      .jne(r2, r4, `v6Local${i}`)
      .load64(r2, r1, HOST.v6 + 16 * i + 8)
      .jeq(r2, r5, "redirect")
      .label(`v6Local${i}`);
  }
  code
    .load16(r5, r1, HOST.overflow)
    .jset(r5, OVERFLOW_V6, "v6Overflow")
    .jump("passNotHost")

    .label("v6Overflow")
    .include(v6Address)
    .include((c) => inLocals(c, maps))

    .label("v6Bound")
    .load64(r4, r7, IP6.destination)
    .load64(r5, r0, PORT.v6)
    .jne(r4, r5, "v6BoundMore")
    .load64(r4, r7, IP6.destination + 8)
    .load64(r5, r0, PORT.v6 + 8)
    .jeq(r4, r5, "deliver")
    .label("v6BoundMore")
    .include(v6Address)
    .load8(r4, r7, IP6.nextHeader)
    .include((c) => isBound(c, maps, 6));
}

/** Passes what is not for the interface's MAC address; r2 is the frame. */
function ownMac(code: Assembler, maps: SteeringMaps): void {
  code
    .mapValue(r1, maps.host)
    .load32(r4, r2)
    .load32(r5, r1, HOST.mac)
    .jne(r4, r5, "passNotHost")
    .load16(r4, r2, 4)
    .load16(r5, r1, HOST.mac + 4)
    .jne(r4, r5, "passNotHost");
}

/** r0 = the destination port's entry, r9 = its flags; r4 is the protocol, r8 the transport header, r3 the frame's end. */
function portFlags(code: Assembler, maps: SteeringMaps, family: Family): void {
  const ports = `v${family}Ports`;
  code
    .mov(r5, 0)
    .jeq(r4, IPPROTO_UDP, ports)
    .jne(r4, IPPROTO_TCP, "passProtocol")
    .mov(r5, 65536)
    .label(ports)
    .mov(r4, r8)
    .add(r4, TRANSPORT.size)
    .jgt(r4, r3, "passMalformed")
    .load16(r4, r8, TRANSPORT.destinationPort)
    .be(r4, 16)
    .add(r4, r5)
    .store32(r10, STACK_INDEX, r4)
    .include((c) => lookup(c, maps.ports, STACK_INDEX))
    .jeq(r0, 0, "passNoMatch")
    .load32(r9, r0, PORT.flags);
}

/** The v4-mapped destination address to the stack. */
function v4Address(code: Assembler): void {
  code
    .load32(r4, r7, IP4.destination)
    .lsh(r4, 32)
    .loadImm64(r5, 0xffff0000)
    .or(r4, r5)
    .store64(r10, STACK_ADDRESS, 0)
    .store64(r10, STACK_ADDRESS + 8, r4);
}

/** The destination address to the stack. */
function v6Address(code: Assembler): void {
  code
    .load64(r4, r7, IP6.destination)
    .load64(r5, r7, IP6.destination + 8)
    .store64(r10, STACK_ADDRESS, r4)
    .store64(r10, STACK_ADDRESS + 8, r5);
}

/** Redirects if the address on the stack is one of the host's, else passes. */
function inLocals(code: Assembler, maps: SteeringMaps): void {
  code
    .include((c) => lookup(c, maps.locals, STACK_ADDRESS))
    .jne(r0, 0, "redirect")
    .jump("passNotHost");
}

/** Redirects with r9 its flags if the address on the stack is bound, else goes on to the wildcard; r4 is the protocol. */
function isBound(code: Assembler, maps: SteeringMaps, family: Family): void {
  code
    .lsh(r4, 8 * (BOUND.protocol - BOUND.port))
    .load16(r5, r8, TRANSPORT.destinationPort)
    .or(r4, r5)
    .or(r4, family << (8 * (BOUND.family - BOUND.port)))
    .store64(r10, STACK_BOUND + BOUND.port, r4)
    .include((c) => lookup(c, maps.bound, STACK_BOUND))
    .jeq(r0, 0, `v${family}Any`)
    .load32(r9, r0)
    .jump("redirect");
}

/** To the XSK of the frame's queue, or up the stack if it has none. */
function redirect(code: Assembler, maps: SteeringMaps): void {
  code
    .label("redirect")
    .jset(r9, STAMP, "stamp")
    .label("deliver")
    .load32(r2, r6, XDP_MD.rx_queue_index)
    .mapFd(r1, maps.xskmap)
    .mov(r3, XDP_PASS)
    .call("redirect_map")
    .mov(r6, r0)
    .store32(r10, STACK_INDEX, COUNTERS.indexOf("redirected"))
    .jeq(r6, XDP_REDIRECT, "count")
    .store32(r10, STACK_INDEX, COUNTERS.indexOf("passNoSocket"))
    .jump("count")

    .label("stamp")
    .mov(r1, r6)
    .mov(r2, -METADATA.size)
    .call("xdp_adjust_meta")
    // A driver without room or support for metadata: deliver without.
    .jne(r0, 0, "deliver")
    .call("ktime_get_ns")
    .load32(r1, r6, XDP_MD.data_meta)
    .load32(r2, r6, XDP_MD.data)
    .mov(r3, r1)
    .add(r3, METADATA.size)
    .jgt(r3, r2, "deliver")
    .store64(r1, METADATA.ktime_ns, r0)
    .store32(r1, METADATA.magic, METADATA_MAGIC)
    .load32(r3, r6, XDP_MD.rx_queue_index)
    .store32(r1, METADATA.queue, r3)
    .jump("deliver");
}

/** Why a frame passes. */
const PASSES: readonly CounterName[] = [
  "passNotIp",
  "passNotHost",
  "passFragment",
  "passProtocol",
  "passNoMatch",
  "passMalformed",
];

/** The ways out. */
function verdict(code: Assembler, maps: SteeringMaps, passes: readonly CounterName[]): void {
  for (const name of passes) {
    code.label(name).store32(r10, STACK_INDEX, COUNTERS.indexOf(name)).jump("pass");
  }
  code
    .label("pass")
    .mov(r6, XDP_PASS)
    .label("count")
    .include((c) => lookup(c, maps.counters, STACK_INDEX))
    .jeq(r0, 0, "out")
    .load64(r1, r0)
    .add(r1, 1)
    .store64(r0, 0, r1)
    .label("out")
    .mov(r0, r6)
    .exit();
}

/** r0 = the value's address, or 0; the key is on the stack. r1 to r5 are lost. */
function lookup(code: Assembler, map: MapReference, key: number): void {
  code.mov(r2, r10).add(r2, key).mapFd(r1, map).call("map_lookup_elem");
}
