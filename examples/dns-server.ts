/**
 * An authoritative name server: dns-socket of npm, on a socket of lcore. The import of dgram is all that differs from the
 * server on the kernel.
 *
 *     LCORE_INTERFACE=veth0 npx bun examples/dns-server.ts 5353
 *     dig -p 5353 @198.18.0.2 www.example.test
 */
import type { Answer, DecodedPacket, OptAnswer, Packet, Question } from "dns-packet";
import dnsSocket from "dns-socket";
import dgram from "lcore/dgram"; // on the kernel: "node:dgram"

const ORIGIN = "example.test";
const SUFFIX = `.${ORIGIN}`;
const TTL = 300;
const HOSTS = 1000;

/** Flags of the header (RFC 1035, section 4.1.1) and response codes. */
const AUTHORITATIVE = 0x400;
const RECURSION_DESIRED = 0x100;
const OPCODE = 0x7800;
const FORMERR = 1;
const NXDOMAIN = 3;
const NOTIMP = 4;
const REFUSED = 5;

/** The payload that this server takes, without fragments on any path (RFC 9715), and the one version of EDNS there is. */
const EDNS: OptAnswer = {
  type: "OPT",
  name: ".",
  udpPayloadSize: 1232,
  extendedRcode: 0,
  ednsVersion: 0,
  flags: 0,
  flag_do: false,
  options: [],
};
/** Extended RCODE 16 in its upper eight bits (RFC 6891, section 6.1.3). */
const BADVERS: OptAnswer = { ...EDNS, extendedRcode: 1 };

const soa: Answer = {
  type: "SOA",
  name: ORIGIN,
  ttl: TTL,
  data: {
    mname: `ns.${ORIGIN}`,
    rname: `hostmaster.${ORIGIN}`,
    serial: 2026010100,
    refresh: 3600,
    retry: 600,
    expire: 604_800,
    minimum: TTL,
  },
};

const records: Answer[] = [
  soa,
  { type: "NS", name: ORIGIN, data: `ns.${ORIGIN}` },
  { type: "MX", name: ORIGIN, data: { preference: 10, exchange: `mail.${ORIGIN}` } },
  { type: "TXT", name: ORIGIN, data: "v=spf1 mx -all" },
  { type: "A", name: `ns.${ORIGIN}`, data: "198.18.0.2" },
  { type: "AAAA", name: `ns.${ORIGIN}`, data: "2001:db8::2" },
  { type: "A", name: `mail.${ORIGIN}`, data: "198.18.0.25" },
  { type: "CNAME", name: `www.${ORIGIN}`, data: `host1.${ORIGIN}` },
  { type: "SRV", name: `_sip._udp.${ORIGIN}`, data: { priority: 1, weight: 5, port: 5060, target: `host2.${ORIGIN}` } },
];
for (let i = 0; i < HOSTS; i++) {
  const [high, low] = [i >> 8, i & 255];
  records.push({ type: "A", name: `host${i}.${ORIGIN}`, data: `198.19.${high}.${low}` });
  records.push({ type: "AAAA", name: `host${i}.${ORIGIN}`, data: `2001:db8::${i.toString(16)}` });
}

/** The zone: records by name, then by type. */
const zone = new Map<string, Map<string, Answer[]>>();
for (const record of records) {
  const types = zone.get(record.name) ?? new Map<string, Answer[]>();
  zone.set(record.name, types);
  types.set(record.type, [...(types.get(record.type) ?? []), { ttl: TTL, ...record } as Answer]);
}
// A name between the origin and another is there, without records of its own (RFC 8020).
zone.set(`_udp.${ORIGIN}`, new Map());

const NONE: Answer[] = [];
const SOA = [soa];

/** The answer to a query. */
function respond({ additionals = [], flags = 0, questions = [] }: DecodedPacket): Packet {
  const edns = additionals.find((record) => record.type === "OPT") as OptAnswer | undefined;
  const response: Packet = {
    flags: flags & (OPCODE | RECURSION_DESIRED),
    questions,
    answers: NONE,
    authorities: NONE,
    additionals: edns === undefined ? NONE : [edns.ednsVersion === 0 ? EDNS : BADVERS],
  };
  if ((flags & OPCODE) !== 0) fail(response, NOTIMP);
  else if (questions.length !== 1) fail(response, FORMERR);
  else if (edns === undefined || edns.ednsVersion === 0) lookUp(questions[0], response);
  return response;
}

function fail(response: Packet, rcode: number): void {
  response.flags = (response.flags ?? 0) | rcode;
}

/** Adds what the zone says to a question. */
function lookUp(question: Question, response: Packet): void {
  const name = question.name.toLowerCase();
  const types = zone.get(name);
  if (question.class !== "IN" || (types === undefined && !name.endsWith(SUFFIX))) {
    fail(response, REFUSED);
    return;
  }
  response.flags = (response.flags ?? 0) | AUTHORITATIVE;
  const answers = types?.get(question.type);
  const alias = types?.get("CNAME");
  if (answers !== undefined) {
    response.answers = answers;
  } else if (alias !== undefined) {
    const target = zone.get(String((alias[0] as { data: string }).data));
    response.answers = [...alias, ...(target?.get(question.type) ?? NONE)];
  } else {
    response.authorities = SOA;
    if (types === undefined) fail(response, NXDOMAIN);
  }
}

const port = Number(process.argv[2] ?? 5353);
// On "::" it is asked over IPv4 too.
const socket = dgram.createSocket("udp6");
const server = dnsSocket({ socket });
server.on("query", (query, from, host) => server.response(query, respond(query), from, host));
server.bind(port, () => console.log(`ready: ${ORIGIN} on UDP ${socket.address().port}`));
process.once("SIGTERM", () => server.destroy(() => process.exit()));
