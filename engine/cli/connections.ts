/** A line of an engine's TCP connections as `ss -tiop` prints it: what it is, then indented what is known of it. */
import type { ConnectionLine } from "../connections.ts";

const COLUMNS = [11, 7, 7] as const;

export const CONNECTIONS_HEAD = `${"State".padEnd(COLUMNS[0])}${"Recv-Q".padEnd(COLUMNS[1])}${"Send-Q".padEnd(COLUMNS[2])}Local Address:Port  Peer Address:Port  Process`;

export function connectionText(line: ConnectionLine): string {
  const { info, lcore, local, owner, peer, pid, recv_q, send_q, state } = line;
  const [first, second, third] = COLUMNS;
  const what = `${state.padEnd(first)}${String(recv_q).padEnd(second)}${String(send_q).padEnd(third)}`;
  const who = owner === null ? `lcore:${lcore}` : `users:(("${owner}",pid=${pid})) lcore:${lcore}`;
  const where = `${place(local)}  ${place(peer)}  ${who}`;
  return info === null ? `${what}${where}` : `${what}${where}\n\t ${infoText(info)}`;
}

function place({ address, port }: ConnectionLine["local"]): string {
  return `${address.includes(":") ? `[${address}]` : address}:${port === 0 ? "*" : port}`;
}

type Info = NonNullable<ConnectionLine["info"]>;

/** How ss prints a field that is not "name:value", and when it is left out. */
function infoText(info: Info): string {
  const words: string[] = [];
  for (const [name, value] of Object.entries(info)) {
    if (name === "congestion") words.push(String(value));
    else if (name === "rtt") words.push(`rtt:${short(info.rtt as number)}/${short(info.rttvar as number)}`);
    else if (name === "retrans_total" && value !== 0) words.push(`retrans:${info.retrans}/${value}`);
    else if (FOLDED.has(name) || value === null || value === 0 || value === false) continue;
    else if (name === "reordering" && value === 3) continue;
    else if (RATES.has(name)) words.push(`${name} ${rate(value as number)}`);
    else if (value === true) words.push(name);
    else if (name === "busy") words.push(`busy:${value}ms`);
    else words.push(`${name}:${typeof value === "number" ? short(value) : value}`);
  }
  return words.join(" ");
}

const FOLDED = new Set(["rttvar", "retrans", "retrans_total"]);
const RATES = new Set(["send", "pacing_rate", "delivery_rate"]);

/** As printf's %g, but whole numbers in full. */
const short = (value: number): string => String(Number.isInteger(value) ? value : Number(value.toPrecision(6)));

/** Three digits, as sprint_bw() of ss. */
function rate(bits: number): string {
  const [by, unit] =
    bits > 1e12 ? [1e12, "T"] : bits > 1e9 ? [1e9, "G"] : bits > 1e6 ? [1e6, "M"] : bits > 1e3 ? [1e3, "K"] : [1, ""];
  return `${Number((bits / by).toPrecision(3))}${unit}bps`;
}

/** Lines of a stream, one at a time; what follows the last newline is none. */
export async function* linesOf(stream: ReadableStream<Uint8Array>): AsyncGenerator<string, void> {
  const decoder = new TextDecoder();
  let rest = "";
  for await (const chunk of stream) {
    const parts = (rest + decoder.decode(chunk, { stream: true })).split("\n");
    rest = parts.pop() ?? "";
    yield* parts;
  }
}
