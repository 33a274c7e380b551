/**
 * Addresses as Bun.udpSocket takes them: numbers in any notation of inet_aton(3), IPv6 text with a zone; names where a
 * socket is bound or connected.
 */
import { addressWords } from "../../sockets/fib.ts";
import { parseIpv6 } from "../../sockets/wire/address.ts";
import { bindFailed } from "./bun-errors.ts";

/** An address, and the zone of a link-local one (RFC 4007): the name of an interface, or "". */
export interface NumericAddress {
  /** 4 or 6. */
  readonly family: number;
  /** 4 or 16. */
  readonly bytes: Uint8Array;
  /** Four words, IPv4 mapped. */
  readonly words: Int32Array;
  readonly zone: string;
}

/** Destinations remembered. */
const KNOWN_MAX = 4096;
const known = new Map<string, NumericAddress>();
/** The last one: an answer goes where the question came from, whose text is the same object. */
let lastText = "";
let last: NumericAddress | null = null;

/** The address that a text is; null for anything else, as a name. */
export function parseNumeric(text: string): NumericAddress | null {
  if (text === lastText) return last;
  const found = known.get(text) ?? parse(text);
  if (found === null) return null;
  lastText = text;
  last = found;
  return found;
}

function parse(text: string): NumericAddress | null {
  const percent = text.indexOf("%");
  const bytes = parseAton(text) ?? parseIpv6(percent < 0 ? text : text.slice(0, percent));
  if (bytes === null) return null;
  const zone = percent < 0 ? "" : text.slice(percent + 1);
  const address = {
    family: bytes.length === 4 ? 4 : 6,
    bytes,
    words: Int32Array.from(addressWords(bytes)),
    zone,
  };
  if (known.size === KNOWN_MAX) known.clear();
  known.set(text, address);
  return address;
}

/** inet_aton(3): one to four numbers, decimal, octal or hexadecimal, of which the last fills what is left. */
function parseAton(text: string): Uint8Array | null {
  const parts = text.split(".", 5);
  if (parts.length > 4) return null;
  const numbers = parts.map(atonNumber);
  const last = numbers.pop() as number;
  const lastMax = 2 ** (8 * (4 - numbers.length));
  if (!(last < lastMax) || !numbers.every((number) => number < 256)) return null;
  const value = numbers.reduce((sum, number, i) => sum + number * 2 ** (24 - 8 * i), last);
  return Uint8Array.of(value >>> 24, value >>> 16, value >>> 8, value);
}

function atonNumber(text: string): number {
  if (/^0[xX][0-9a-fA-F]+$/.test(text)) return Number(text);
  if (/^0[0-7]*$/.test(text)) return Number.parseInt(text, 8);
  return /^[1-9][0-9]*$/.test(text) ? Number(text) : Number.NaN;
}

/** getaddrinfo(3)'s EAI_AGAIN, as the runtime's resolver numbers it. */
const EAI_AGAIN = -3001;
const ESRCH = 3;

/** What the resolver says of a name. */
interface ResolverError extends Error {
  errno: number;
  code: string;
  hostname?: string;
}

/** The address to bind to, given as a name: an IPv6 one where it has any. Rejects as the original's bind fails. */
export async function resolveLocal(hostname: string): Promise<NumericAddress> {
  try {
    const addresses = await lookup(hostname);
    return addresses.find(({ family }) => family === 6) ?? addresses[0];
  } catch (error) {
    const { errno } = error as ResolverError;
    // The original takes EAI_AGAIN, -3 in the C library, for an errno.
    throw errno === EAI_AGAIN ? bindFailed(ESRCH, hostname) : notFound(error as ResolverError, hostname);
  }
}

/** The addresses to connect to, in the order in which they are tried. Rejects as the original's connect fails. */
export async function resolveRemote(hostname: string): Promise<NumericAddress[]> {
  try {
    return await lookup(hostname);
  } catch (error) {
    const { errno } = error as ResolverError;
    if (errno !== EAI_AGAIN) throw notFound(error as ResolverError, hostname);
    throw Object.assign(new Error(`connect EAI_AGAIN ${hostname}`), {
      name: "DNSException",
      code: "EAI_AGAIN",
      syscall: "connect",
      hostname,
      errno,
    });
  }
}

async function lookup(hostname: string): Promise<NumericAddress[]> {
  const found = await Bun.dns.lookup(hostname, { backend: "libc" });
  return found.map(({ address }) => parseNumeric(address)).filter((address) => address !== null);
}

function notFound({ code, errno }: ResolverError, hostname: string): Error {
  const name = code.replace(/^DNS_/, "");
  const error = new Error(`getaddrinfo ${name} ${hostname}`);
  return Object.assign(error, { code: name, syscall: "getaddrinfo", hostname, errno });
}
