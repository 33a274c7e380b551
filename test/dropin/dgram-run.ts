/** Runs the cases of dgram-child.ts in the host b of a pair of hosts of their own, with the peer in a. */
import { writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";
import { formatIp } from "../../sockets/wire/address.ts";
import { type Host, makeHosts, type VethPair } from "../support/hosts.ts";
import type { Addresses, Outcome } from "./dgram-compare.ts";
import { CLOSED_PORT, DgramPeer, OFFSET6, OTHER_PORT, PEER_GROUP4, PEER_GROUP6, PEER_PORT } from "./dgram-peer.ts";

/** Whose sockets: node:dgram of Node, of Bun, ours on AF_XDP. */
export type Kind = "node" | "bun" | "lcore";

const CHILD = fileURLToPath(new URL("./dgram-child.ts", import.meta.url));
const EXIT = fileURLToPath(new URL("./dgram-exit.ts", import.meta.url));
const BROADCAST = "198.18.0.255";

/** What the processes run: ours as they are, for Node as one file each. */
export interface Programs {
  readonly child: string;
  readonly exit: string;
}

/** Bundles both for Node, which reads no TypeScript and does not know this package. */
export async function bundleForNode(directory: string): Promise<Programs> {
  const bundle = async (source: string): Promise<string> => {
    const built = await Bun.build({ entrypoints: [source], target: "node", format: "esm", external: ["lcore/dgram"] });
    if (!built.success) throw new AggregateError(built.logs, "bundle for Node");
    const path = join(directory, basename(source).replace(/ts$/, "mjs"));
    writeFileSync(path, await built.outputs[0].text());
    return path;
  };
  return { child: await bundle(CHILD), exit: await bundle(EXIT) };
}

/** ICMP errors come for every datagram, not for some a second. */
function unlimitIcmp(host: Host): void {
  host.ns.run(() => {
    writeFileSync("/proc/sys/net/ipv4/icmp_ratemask", "0");
    writeFileSync("/proc/sys/net/ipv6/icmp/ratelimit", "0");
  });
}

function linkLocal({ ifindex, rtnl }: Host): string {
  const own = rtnl.addresses(ifindex).find(({ local }) => local[0] === 0xfe && local[1] === 0x80);
  return formatIp((own as { local: Uint8Array }).local);
}

function addresses(a: Host, b: Host): Addresses {
  return {
    own4: b.ipv4Text,
    own6: b.ipv6Text,
    peer4: a.ipv4Text,
    peer6: a.ipv6Text,
    peerPort: PEER_PORT,
    peerPort6: PEER_PORT + OFFSET6,
    otherPort: OTHER_PORT,
    group4: PEER_GROUP4,
    group6: PEER_GROUP6,
    closedPort: CLOSED_PORT,
    broadcast: BROADCAST,
    interface: b.name,
    ifindex: b.ifindex,
    peerLinkLocal: linkLocal(a),
  };
}

/** Two hosts, the peer on a, and processes of one kind on b. */
export class Bed {
  private readonly hosts: VethPair;
  private readonly peer: DgramPeer;
  private readonly kind: Kind;
  private readonly bundles: Programs;

  constructor(kind: Kind, bundles: Programs) {
    this.kind = kind;
    this.bundles = bundles;
    this.hosts = makeHosts();
    const { a, b } = this.hosts;
    for (const host of [a, b]) unlimitIcmp(host);
    this.peer = new DgramPeer(a);
  }

  /** What each case comes to; all cases, or those named. */
  async cases(names: readonly string[] = []): Promise<Map<string, Outcome>> {
    const { a, b } = this.hosts;
    const { errors, lines, status } = await this.run("child", JSON.stringify(addresses(a, b)), ...names);
    if (status !== 0 || errors !== "")
      throw new Error(`${this.kind}: exit status ${status}, ${lines.slice(-300)} ${errors}`);
    const outcomes = lines
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line) as { name: string; outcome: Outcome });
    return new Map(outcomes.map(({ name, outcome }) => [name, outcome]));
  }

  /** How a program of dgram-exit.ts ends, what it prints, and the last line of what it complains of. */
  async exit(name: string): Promise<Outcome> {
    const { errors, lines, status } = await this.run("exit", name, this.hosts.a.ipv4Text, String(PEER_PORT));
    return { status, lines, complains: /bind E\w+ [\d.:]+/.exec(errors)?.[0] ?? errors };
  }

  close(): void {
    this.peer.close();
    this.hosts.close();
  }

  private async run(program: "child" | "exit", ...given: string[]) {
    const { b } = this.hosts;
    const source = program === "child" ? CHILD : EXIT;
    const command = this.kind === "node" ? ["node", this.bundles[program]] : [process.execPath, source];
    const env = { ...process.env, LCORE_INTERFACE: b.name };
    const child = b.ns.run(() =>
      Bun.spawn([...command, this.kind, ...given], { stdin: "ignore", stdout: "pipe", stderr: "pipe", env }),
    );
    const [lines, errors] = await Promise.all([child.stdout.text(), child.stderr.text()]);
    return { lines, errors, status: await child.exited };
  }
}
