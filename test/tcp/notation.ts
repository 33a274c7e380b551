/**
 * The notation of TCP scripts: time, packet in, packet out, call; after packetdrill's, with a syntax of its own. A file
 * has several scripts:
 *
 *     == a lost segment is retransmitted            title
 *     config initialWindow=2 sack=off               limits and tunables of the TCP (config.ts)
 *     link family=6 mtu=1400                        the wire: IP version, MTU
 *     passive ts sack mss=1460 wscale=7 rtt=10      a handshake made and not shown, and the connection accepted
 *     active ...                                    the same the other way round
 *     send 1000                                     a call, now
 *     > PA 1+1000 ack 1                             a segment that leaves now: flags, first sequence number + bytes
 *     +200ms > PA 1+1000 ack 1                      … that leaves 200 ms later and none before
 *     +10ms < A 1 ack 1001 win 500 <sack 1:2>       a segment that comes 10 ms later; nothing leaves meanwhile
 *     recv 100 | recv = EAGAIN | recv 100 = 40      a read: bytes wanted, what it returns
 *     state CLOSE_WAIT | cwnd 10 | counter X 1      what is the case
 *
 * Flags are S A F R P U E (ECE) C (CWR), in any order. Sequence numbers are counted from each side's SYN, which has 0;
 * `port=N` before the flags is of another connection of the peer. Bytes of a stream are those of streamByte(). What a
 * line of a segment that leaves does not name (win, urg, tos, options) is not compared; `<>` says that there are no options.
 */
export interface Line {
  number: number;
  text: string;
  /** Microseconds after the line before. */
  afterUs: number;
  kind: "in" | "out" | "call" | "open";
  packet: Packet | null;
  words: string[];
}

export interface Packet {
  port: number;
  flags: number;
  seq: number;
  length: number;
  ack: number | null;
  win: number | null;
  urg: number | null;
  tos: number | null;
  /** Null: not said. */
  options: Option[] | null;
}

export interface Option {
  name: "mss" | "wscale" | "sackok" | "ts" | "sack" | "raw";
  numbers: (number | null)[];
}

export interface Script {
  title: string;
  file: string;
  config: Record<string, number | boolean>;
  link: { v6: boolean; mtu: number };
  lines: Line[];
}

const FLAG_BITS: Record<string, number> = { F: 1, S: 2, R: 4, P: 8, A: 16, U: 32, E: 64, C: 128 };

export function flagText(flags: number): string {
  return [..."SAFRPUEC"].filter((letter) => (flags & FLAG_BITS[letter]) !== 0).join("") || "-";
}

class Mistake extends Error {}

function number(text: string | undefined, what: string): number {
  if (text === undefined || !/^-?\d+$/.test(text))
    throw new Mistake(`${what} is to be a whole number, not "${text ?? ""}"`);
  return Number(text);
}

function parseTime(text: string): number {
  const match = /^\+(\d+(?:\.\d+)?)(us|ms|s)$/.exec(text);
  if (match === null) throw new Mistake(`a time is +10us, +40ms or +1.5s, not "${text}"`);
  return Math.round(Number(match[1]) * { us: 1, ms: 1000, s: 1_000_000 }[match[2] as "us" | "ms" | "s"]);
}

function parseOptions(text: string): Option[] {
  if (text.trim() === "") return [];
  return text.split(",").map((part) => {
    const [name, ...rest] = part.trim().split(/\s+/);
    if (!["mss", "wscale", "sackok", "ts", "sack", "raw"].includes(name))
      throw new Mistake(`no option is called "${name}"`);
    const numbers = rest
      .flatMap((pair) => pair.split(":"))
      .map((digits) => (digits === "*" ? null : number(digits, name)));
    const wanted = { mss: 1, wscale: 1, sackok: 0, ts: 2 }[name as "mss"];
    if (wanted !== undefined && numbers.length !== wanted) throw new Mistake(`option ${name} takes ${wanted} numbers`);
    if (name === "sack" && (numbers.length === 0 || numbers.length % 2 !== 0))
      throw new Mistake("sack takes start:end pairs");
    return { name, numbers } as Option;
  });
}

function parsePacket(text: string): Packet {
  const options = /<(.*)>/.exec(text);
  const words = text.replace(/<.*>/, " ").trim().split(/\s+/);
  let port = 0;
  if (words[0]?.startsWith("port=")) port = number(words.shift()?.slice(5), "port");
  const letters = words.shift() ?? "";
  if (!/^([SAFRPUEC]+|-)$/.test(letters)) throw new Mistake(`flags are of S A F R P U E C or -, not "${letters}"`);
  const flags = [...letters].reduce((bits, letter) => bits | (FLAG_BITS[letter] ?? 0), 0);
  const place = /^(-?\d+)(?:\+(\d+))?$/.exec(words.shift() ?? "");
  if (place === null) throw new Mistake("after the flags comes a sequence number, or number+bytes");
  const packet: Packet = {
    ...{
      port,
      flags,
      seq: Number(place[1]),
      length: Number(place[2] ?? 0),
      ack: null,
      win: null,
      urg: null,
      tos: null,
    },
    options: options === null ? null : parseOptions(options[1]),
  };
  while (words.length > 0) {
    const name = words.shift() as string;
    if (name === "ce") packet.tos = 3;
    else if (name === "ect") packet.tos = 2;
    else if (name === "ack" || name === "win" || name === "urg" || name === "tos")
      packet[name] = number(words.shift(), name);
    else throw new Mistake(`a segment has ack, win, urg, tos, ect or ce, not "${name}"`);
  }
  if (((packet.flags & 16) !== 0) !== (packet.ack !== null)) throw new Mistake("flag A and an ack number go together");
  return packet;
}

function parseLine(text: string, lineNumber: number): Line {
  let rest = text.trim();
  let afterUs = 0;
  if (rest.startsWith("+")) {
    const [time] = rest.split(/\s+/, 1);
    afterUs = parseTime(time);
    rest = rest.slice(time.length).trim();
    if (rest === "") throw new Mistake("a time without an event");
  }
  const line = { number: lineNumber, text: text.trim(), afterUs, packet: null, words: [] as string[] };
  if (rest.startsWith("<")) return { ...line, kind: "in", packet: parsePacket(rest.slice(1)) };
  if (rest.startsWith(">")) return { ...line, kind: "out", packet: parsePacket(rest.slice(1)) };
  return { ...line, kind: "call", words: rest.split(/\s+/) };
}

function setting(text: string): [string, number | boolean] {
  const [name, value] = text.split("=");
  if (value === "on" || value === "off") return [name, value === "on"];
  return [name, number(value, name)];
}

/** Parses a file of scripts. Throws an Error that says file, line and what is wrong. */
export function parseScripts(source: string, file: string): Script[] {
  const scripts: Script[] = [];
  source.split("\n").forEach((raw, i) => {
    const text = raw.replace(/#.*$/, "").trim();
    if (text === "") return;
    try {
      if (text.startsWith("==")) {
        scripts.push({
          title: text.slice(2).trim(),
          file,
          config: {},
          link: { v6: false, mtu: 1500 },
          lines: [],
        });
        return;
      }
      const script = scripts.at(-1);
      if (script === undefined) throw new Mistake("the file begins with a title: == what is shown");
      const words = text.split(/\s+/);
      if (words[0] === "config") Object.assign(script.config, Object.fromEntries(words.slice(1).map(setting)));
      else if (words[0] === "link") {
        const given = Object.fromEntries(words.slice(1).map(setting));
        if (given.family !== undefined) script.link.v6 = given.family === 6;
        if (given.mtu !== undefined) script.link.mtu = given.mtu as number;
      } else if (words[0] === "passive" || words[0] === "active") {
        script.lines.push({ number: i + 1, text, afterUs: 0, kind: "open", packet: null, words });
      } else script.lines.push(parseLine(text, i + 1));
    } catch (error) {
      if (!(error instanceof Mistake)) throw error;
      throw new Error(`${file}:${i + 1}: ${error.message}: ${text}`);
    }
  });
  return scripts;
}
