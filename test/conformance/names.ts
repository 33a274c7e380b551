/** Names for numbers in traces: errnos, options, requests, flags. */
import { errnoName } from "af-xdp-bindings";
import * as constants from "../../sockets/calls/constants.ts";
import * as options from "../../sockets/options.ts";

const entries = Object.entries(constants).filter((entry): entry is [string, number] => typeof entry[1] === "number");

/** Names by number of the constants whose names begin so. */
function table(...prefixes: string[]): ReadonlyMap<number, string> {
  const named = entries.filter(([name]) => prefixes.some((prefix) => name.startsWith(prefix)));
  // Of two names of one number the first counts: FIONREAD and SIOCINQ.
  return new Map(named.map(([name, value]) => [value, name] as const).reverse());
}

const FAMILIES = table("AF_");
const REQUESTS = table("FIO", "SIOC");
const COMMANDS = table("F_GET", "F_SET", "F_DUPFD");
const POLL_BITS = entries.filter(([name]) => name.startsWith("POLL") && !name.startsWith("POLL_"));
const LEVELS: Record<number, string> = { 0: "IP_", 1: "SO_", 6: "TCP_", 17: "UDP_", 41: "IPV6_" };
const TYPES: Record<number, string> = { 1: "SOCK_STREAM", 2: "SOCK_DGRAM", 3: "SOCK_RAW", 5: "SOCK_SEQPACKET" };

const OPTIONS = new Map<string, string>();
for (const [name, value] of Object.entries(options)) {
  if (typeof value !== "number") continue;
  for (const [level, prefix] of Object.entries(LEVELS)) {
    if (name.startsWith(prefix) || (name.startsWith("MCAST_") && (level === "0" || level === "41"))) {
      const key = `${level}/${value}`;
      if (!OPTIONS.has(key)) OPTIONS.set(key, name);
    }
  }
}

export const familyName = (family: number): string => FAMILIES.get(family) ?? String(family);
export const typeName = (type: number): string => TYPES[type & constants.SOCK_TYPE_MASK] ?? String(type);
export const requestName = (request: number): string => REQUESTS.get(request) ?? `0x${request.toString(16)}`;
export const commandName = (command: number): string => COMMANDS.get(command) ?? `fcntl ${command}`;
export const optionName = (level: number, name: number): string =>
  OPTIONS.get(`${level}/${name}`) ?? `${LEVELS[level] ?? `level ${level} `}${name}`;

/** A result: a number, or -ENAME. */
export const resultName = (result: number): string => (result < 0 ? `-${errnoName(-result)}` : String(result));

export function pollNames(bits: number): string {
  const names = POLL_BITS.filter(([, bit]) => (bits & bit) !== 0).map(([name]) => name);
  return names.length === 0 ? "0" : names.join("|");
}
