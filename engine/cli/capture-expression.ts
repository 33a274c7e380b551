/**
 * Capture filters where there is no tcpdump to compile them: a part of its syntax, with its meaning, to classic BPF over
 * Ethernet frames.
 *
 *   ip  ip6  arp  tcp  udp  icmp  icmp6
 *   [src|dst] host ADDRESS          src|dst ADDRESS
 *   [src|dst] net ADDRESS/LENGTH
 *   [tcp|udp] [src|dst] port N      [tcp|udp] [src|dst] portrange N-N
 *   EXPR and EXPR   EXPR or EXPR   not EXPR   ( EXPR )      also && || !
 *
 * As in pcap-filter(7), `and` and `or` bind alike, from the left, and `not` binds closer. Ports are those of TCP, UDP and
 * SCTP. Frames with VLAN tags, and what is behind IPv6 extension headers, match as little as they do there.
 */

import { PACKET_MAX } from "../../queues/pcap/format.ts";
import {
  BPF_ABS,
  BPF_ALU,
  BPF_AND,
  BPF_B,
  BPF_H,
  BPF_IND,
  BPF_JA,
  BPF_JEQ,
  BPF_JGE,
  BPF_JGT,
  BPF_JMP,
  BPF_JSET,
  BPF_LD,
  BPF_LDX,
  BPF_MAXINSNS,
  BPF_MSH,
  BPF_RET,
  BPF_W,
  type SockFilter,
} from "../../sockets/bpf/opcodes.ts";
import { parseIp } from "../../sockets/wire/address.ts";

/** What can be said, for messages. */
export const KNOWN_WORDS =
  "ip, ip6, arp, tcp, udp, icmp, icmp6, [src|dst] host A, [src|dst] net A/N, [tcp|udp] [src|dst] port N, portrange N-N, and, or, not, ( )";

type Node =
  | { readonly kind: "and" | "or"; readonly a: Node; readonly b: Node }
  | { readonly kind: "not"; readonly a: Node }
  /** Instructions that load A, then one comparison of it. */
  | { readonly kind: "test"; readonly loads: readonly SockFilter[]; readonly comparison: number; readonly k: number };

/** Compiles an expression. Throws SyntaxError in words. */
export function compileExpression(text: string): SockFilter[] {
  const words = tokens(text);
  if (words.length > WORDS_MAX) throw new SyntaxError(`a filter of ${words.length} words: at most ${WORDS_MAX}`);
  const parser = new Parser(words);
  const program = generate(parser.whole());
  if (program.length > BPF_MAXINSNS)
    throw new SyntaxError(`the filter needs ${program.length} instructions: make it shorter`);
  return program;
}

function tokens(text: string): string[] {
  return text.match(/&&|\|\||[()!]|[^\s()!&|]+|\S/g) ?? [];
}

// ---- what frames look like ----

const ETHERTYPE = 12;
const IP = 14;
const ETH_P_IP = 0x0800;
const ETH_P_ARP = 0x0806;
const ETH_P_RARP = 0x8035;
const ETH_P_IPV6 = 0x86dd;
const TCP = 6;
const UDP = 17;
const ICMP = 1;
const ICMP6 = 58;
const SCTP = 132;
const FRAGMENT = 44;
/** Offsets in a frame: fields of IPv4, of ARP for IPv4, of IPv6, and the header behind IPv6's. */
const V4_FRAGMENT = IP + 6;
const V4_PROTOCOL = IP + 9;
const V4_ADDRESSES = { src: IP + 12, dst: IP + 16 };
const ARP_ADDRESSES = { src: IP + 14, dst: IP + 24 };
const V6_NEXT = IP + 6;
const V6_ADDRESSES = { src: IP + 8, dst: IP + 24 };
const V6_PAYLOAD = IP + 40;
const FRAGMENT_OFFSET = 0x1fff;

type Direction = "src" | "dst";
const DIRECTIONS: readonly Direction[] = ["src", "dst"];
/** Where a port is in TCP's, UDP's and SCTP's header. */
const PORTS = { src: 0, dst: 2 };

const one = (code: number, k: number): SockFilter => ({ code, jt: 0, jf: 0, k: k >>> 0 });
const load = (size: number, at: number): SockFilter => one(BPF_LD | size | BPF_ABS, at);
const equals = (size: number, at: number, k: number): Node => ({
  kind: "test",
  loads: [load(size, at)],
  comparison: BPF_JEQ,
  k,
});
const both = (a: Node, b: Node): Node => ({ kind: "and", a, b });
const either = (a: Node, b: Node): Node => ({ kind: "or", a, b });
const not = (a: Node): Node => ({ kind: "not", a });
const etherType = (type: number): Node => equals(BPF_H, ETHERTYPE, type);
/** One of the directions that are meant, or either. */
const towards = (direction: Direction | null, test: (direction: Direction) => Node): Node =>
  (direction === null ? DIRECTIONS : [direction]).map(test).reduce(either);

/** Whether the 32-bit words at `at` are those of a network. */
function inNetwork(at: number, address: Uint8Array, length: number): Node {
  const view = new DataView(address.buffer, address.byteOffset);
  const words = Array.from({ length: address.length / 4 }, (_, i): Node => {
    const bits = Math.min(Math.max(length - 32 * i, 0), 32);
    const mask = bits === 0 ? 0 : (-1 << (32 - bits)) >>> 0;
    const masked = mask === 0xffffffff ? [] : [one(BPF_ALU | BPF_AND, mask)];
    const loads = [load(BPF_W, at + 4 * i), ...masked];
    return { kind: "test", loads, comparison: BPF_JEQ, k: (view.getUint32(4 * i) & mask) >>> 0 };
  });
  return words.reduce(both);
}

function network(direction: Direction | null, address: Uint8Array, length: number): Node {
  if (address.length === 16) {
    return both(
      etherType(ETH_P_IPV6),
      towards(direction, (d) => inNetwork(V6_ADDRESSES[d], address, length)),
    );
  }
  const v4 = towards(direction, (d) => inNetwork(V4_ADDRESSES[d], address, length));
  const arp = towards(direction, (d) => inNetwork(ARP_ADDRESSES[d], address, length));
  return either(both(etherType(ETH_P_IP), v4), both(either(etherType(ETH_P_ARP), etherType(ETH_P_RARP)), arp));
}

function protocol(number: number, v4 = true, v6 = true): Node {
  const inV4 = both(etherType(ETH_P_IP), equals(BPF_B, V4_PROTOCOL, number));
  const fragment = both(equals(BPF_B, V6_NEXT, FRAGMENT), equals(BPF_B, V6_PAYLOAD, number));
  const inV6 = both(etherType(ETH_P_IPV6), either(equals(BPF_B, V6_NEXT, number), fragment));
  return v4 && v6 ? either(inV4, inV6) : v4 ? inV4 : inV6;
}

/** Ports from `low` to `high` of the protocols. */
function ports(protocols: readonly number[], direction: Direction | null, low: number, high: number): Node {
  const among = (at: number): Node => protocols.map((number) => equals(BPF_B, at, number)).reduce(either);
  const range = (loads: SockFilter[]): Node => {
    if (low === high) return { kind: "test", loads, comparison: BPF_JEQ, k: low };
    const above: Node = { kind: "test", loads, comparison: BPF_JGT, k: high };
    return both({ kind: "test", loads, comparison: BPF_JGE, k: low }, not(above));
  };
  const first: Node = { kind: "test", loads: [load(BPF_H, V4_FRAGMENT)], comparison: BPF_JSET, k: FRAGMENT_OFFSET };
  const inV4 = towards(direction, (d) =>
    range([one(BPF_LDX | BPF_B | BPF_MSH, IP), one(BPF_LD | BPF_H | BPF_IND, IP + PORTS[d])]),
  );
  const inV6 = towards(direction, (d) => range([load(BPF_H, V6_PAYLOAD + PORTS[d])]));
  return either(
    both(etherType(ETH_P_IP), both(among(V4_PROTOCOL), both(not(first), inV4))),
    both(etherType(ETH_P_IPV6), both(among(V6_NEXT), inV6)),
  );
}

const WORDS: Record<string, () => Node> = {
  ip: () => etherType(ETH_P_IP),
  ip6: () => etherType(ETH_P_IPV6),
  arp: () => etherType(ETH_P_ARP),
  tcp: () => protocol(TCP),
  udp: () => protocol(UDP),
  icmp: () => protocol(ICMP, true, false),
  icmp6: () => protocol(ICMP6, false, true),
};

/** The most words of an expression. */
const WORDS_MAX = 1000;
/** The deepest nesting of `not` and parentheses. */
const DEPTH_MAX = 100;

class Parser {
  private readonly words: readonly string[];
  private at = 0;
  private depth = 0;

  constructor(words: readonly string[]) {
    this.words = words;
  }

  whole(): Node {
    const node = this.expression();
    if (this.at < this.words.length) throw this.unexpected();
    return node;
  }

  private expression(): Node {
    let node = this.term();
    for (;;) {
      if (this.skip("and", "&&")) node = both(node, this.term());
      else if (this.skip("or", "||")) node = either(node, this.term());
      else return node;
    }
  }

  private term(): Node {
    if (++this.depth > DEPTH_MAX) throw new SyntaxError(`more than ${DEPTH_MAX} levels of "not" and parentheses`);
    const node = this.skip("not", "!") ? not(this.term()) : this.skip("(") ? this.closed() : this.primitive();
    this.depth--;
    return node;
  }

  private closed(): Node {
    const node = this.expression();
    if (!this.skip(")")) throw this.unexpected();
    return node;
  }

  private primitive(): Node {
    const word = this.word();
    const simple = WORDS[word];
    if (simple !== undefined) {
      this.at++;
      const protocols = word === "tcp" ? [TCP] : word === "udp" ? [UDP] : null;
      return protocols !== null && this.beginsPort() ? this.portTest(protocols, this.direction()) : simple();
    }
    const direction = this.direction();
    if (this.word() === "port" || this.word() === "portrange") return this.portTest([TCP, UDP, SCTP], direction);
    if (this.skip("net")) return this.net(direction);
    if (!this.skip("host") && direction === null) throw this.unexpected();
    const address = this.address(this.word());
    this.at++;
    return network(direction, address, address.length * 8);
  }

  /** Whether what follows is of a port: then a protocol before it belongs to it. */
  private beginsPort(): boolean {
    const ahead = this.words[this.at];
    const next = ahead === "src" || ahead === "dst" ? this.words[this.at + 1] : ahead;
    return next === "port" || next === "portrange";
  }

  private direction(): Direction | null {
    return this.skip("src") ? "src" : this.skip("dst") ? "dst" : null;
  }

  private portTest(protocols: readonly number[], direction: Direction | null): Node {
    const range = this.word() === "portrange";
    this.at++;
    const word = this.word();
    const [, low, high] = (range ? /^(\d+)-(\d+)$/ : /^(\d+)()$/).exec(word) ?? [];
    const from = Number(low);
    const to = range ? Number(high) : from;
    if (low === undefined || from > 65535 || to > 65535 || from > to) {
      throw new SyntaxError(range ? `"${word}": two ports, as 8000-8080` : `"${word}": a port from 0 to 65535`);
    }
    this.at++;
    return ports(protocols, direction, from, to);
  }

  private net(direction: Direction | null): Node {
    const word = this.word();
    const [text, bits, more] = word.split("/");
    const address = this.address(text);
    const length = Number(bits);
    if (more !== undefined || !/^\d+$/.test(bits ?? "") || length > address.length * 8) {
      throw new SyntaxError(`"${word}": a network with its prefix length, as 198.18.0.0/15`);
    }
    const outside = address.some((byte, i) => (byte & (0xff >> Math.min(Math.max(length - 8 * i, 0), 8))) !== 0);
    if (outside) throw new SyntaxError(`"${word}": bits are set behind the prefix`);
    this.at++;
    return network(direction, address, length);
  }

  private address(text: string): Uint8Array {
    const address = parseIp(text);
    if (address === null) throw new SyntaxError(`"${text}": no IPv4 or IPv6 address`);
    return address;
  }

  /** The word at hand; "" behind the last. */
  private word(): string {
    return this.words[this.at] ?? "";
  }

  private skip(...words: string[]): boolean {
    if (!words.includes(this.word())) return false;
    this.at++;
    return true;
  }

  private unexpected(): SyntaxError {
    return new SyntaxError(
      this.at < this.words.length ? `"${this.word()}" is not understood there` : "the filter ends too early",
    );
  }
}

// ---- code ----

/** Farthest that a comparison jumps: its offsets have 8 bits. */
const JUMP_MAX = 255;

/**
 * Instructions from the last to the first: every jump goes forward, so where it goes has been written by then. A place is
 * counted from the end.
 */
class Backwards {
  private readonly written: SockFilter[] = [];

  /** Puts an instruction before those written. Returns its place. */
  put(one: SockFilter): number {
    return this.written.push(one);
  }

  /** A comparison that goes on at one of two places. */
  compare(comparison: number, k: number, whenTrue: number, whenFalse: number): void {
    const t = this.near(whenTrue);
    const f = this.near(whenFalse);
    const here = this.written.length;
    this.put({ code: BPF_JMP | comparison, jt: here - t, jf: here - f, k });
  }

  finish(): SockFilter[] {
    return this.written.toReversed();
  }

  /** A place within reach of the next comparison that leads to `place`. */
  private near(place: number): number {
    // Two less, for the detours of this comparison's two ways.
    if (this.written.length - place <= JUMP_MAX - 2) return place;
    return this.put(one(BPF_JMP | BPF_JA, this.written.length - place));
  }
}

function generate(node: Node): SockFilter[] {
  const code = new Backwards();
  const reject = code.put(one(BPF_RET, 0));
  const accept = code.put(one(BPF_RET, PACKET_MAX));
  put(code, node, accept, reject);
  return code.finish();
}

/** Writes a node that goes on at one of two places. Returns where it begins. */
function put(code: Backwards, node: Node, accept: number, reject: number): number {
  switch (node.kind) {
    case "and":
      return put(code, node.a, put(code, node.b, accept, reject), reject);
    case "or":
      return put(code, node.a, accept, put(code, node.b, accept, reject));
    case "not":
      return put(code, node.a, reject, accept);
    default: {
      code.compare(node.comparison, node.k, accept, reject);
      return node.loads.reduceRight((_, load) => code.put(load), 0);
    }
  }
}
