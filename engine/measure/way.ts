/** How a generator's frames get from an interface of this host to a service elsewhere, by what the host's kernel knows. */
import { check, ERRNO, SysError, sys } from "af-xdp-bindings";
import { addressWords } from "../../sockets/fib.ts";
import { SOCKADDR_IN6_BYTES, writeSockaddr } from "../../sockets/sockaddr.ts";
import { formatIp } from "../../sockets/wire/address.ts";
import { Rtnl } from "../host/rtnetlink.ts";
import { chooseMode, findInterface } from "../interface.ts";
import type { XdpGeneratorLink } from "./load-thread.ts";
import type { InterfaceLoad } from "./trial.ts";

export interface Way {
  readonly link: XdpGeneratorLink;
  readonly sourceMac: Uint8Array;
  readonly destinationMac: Uint8Array;
  readonly source: Uint8Array;
  /** The first of as many UDP ports as there are flows, which no program of the host has or gets until close(). */
  readonly sourcePort: number;
  close(): void;
}

const AF_INET = 2;
const AF_INET6 = 10;
const SOCK_DGRAM = 2;
const SOCK_CLOEXEC = 0x80000;
const IPV4_UDP_HEADERS = 28;
const IPV6_UDP_HEADERS = 48;
/** Far longer than the kernel takes to give an address up that nobody answers for. */
const NEIGHBOUR_MS = 5000;
const LOOK_MS = 5;
/** Below the ports that kernels give by themselves. */
const FIRST_PORT = 20_000;
const LAST_PORT = 65_535;

/**
 * Finds the way to `destination`: the route, the source address and the neighbour are the kernel's choice.
 *
 * @param destination 4 or 16 bytes
 * @param size bytes of payload of each datagram
 * Throws RangeError that says what to do, SysError for what the host refuses.
 */
export async function wayTo(
  { name, mode }: InterfaceLoad,
  destination: Uint8Array,
  flows: number,
  size: number,
): Promise<Way> {
  const found = findInterface(name);
  const { link } = found;
  const rtnl = new Rtnl();
  try {
    const route = rtnl.getRoute(destination, { oif: link.ifindex });
    const hop = route?.nextHops.find(({ ifindex }) => ifindex === link.ifindex);
    if (route === null || hop === undefined || route.prefsrc === null)
      throw new RangeError(`interface ${name}: no way from it to ${formatIp(destination)}`);
    const most = link.mtu - (destination.length === 4 ? IPV4_UDP_HEADERS : IPV6_UDP_HEADERS);
    if (size > most) throw new RangeError(`size ${size}: up to ${most} bytes fit a datagram of ${name}`);
    const destinationMac = await macOf(rtnl, link.ifindex, hop.gateway ?? destination, name);
    const { sourcePort, close } = holdPorts(route.prefsrc, flows);
    return {
      link: {
        kind: "xdp",
        ifindex: link.ifindex,
        queues: Array.from({ length: found.queues }, (_, queue) => queue),
        mode: chooseMode(mode, found).attach,
        otherwiseSkb: mode === "auto",
      },
      sourceMac: link.mac,
      destinationMac,
      source: route.prefsrc,
      sourcePort,
      close,
    };
  } finally {
    rtnl.close();
  }
}

async function macOf(rtnl: Rtnl, ifindex: number, address: Uint8Array, name: string): Promise<Uint8Array> {
  const text = formatIp(address);
  rtnl.useNeighbour(ifindex, address);
  for (const deadline = performance.now() + NEIGHBOUR_MS; performance.now() < deadline; await Bun.sleep(LOOK_MS)) {
    const known = rtnl.neighbours(ifindex).find((neighbour) => formatIp(neighbour.address) === text);
    if (known?.mac?.length === 6) return known.mac;
  }
  throw new RangeError(`interface ${name}: nobody there answers for ${text}`);
}

/** Binds kernel sockets to `count` ports in a row, which receive nothing: the answers are the generator's. */
function holdPorts(address: Uint8Array, count: number): { sourcePort: number; close(): void } {
  const family = address.length === 4 ? AF_INET : AF_INET6;
  const [w0, w1, w2, w3] = addressWords(address);
  const sockaddr = new Uint8Array(SOCKADDR_IN6_BYTES);
  const fds: number[] = [];
  const close = (): void => {
    for (const fd of fds.splice(0)) sys.close(fd);
  };
  try {
    for (let port = FIRST_PORT; port <= LAST_PORT; port++) {
      const fd = check(sys.socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0), "socket");
      fds.push(fd);
      const length = writeSockaddr(new DataView(sockaddr.buffer), family, w0, w1, w2, w3, port);
      const result = sys.bind(fd, sockaddr.subarray(0, length));
      // Somebody has it: another row begins behind it.
      if (result === -ERRNO.EADDRINUSE) close();
      else check(result, "bind");
      if (fds.length === count) return { sourcePort: port - count + 1, close };
    }
  } catch (error) {
    close();
    if (error instanceof SysError && error.code === "EMFILE")
      throw new RangeError(`flows ${count}: each holds a port by a descriptor: raise the limit (ulimit -n)`);
    throw error;
  }
  close();
  throw new RangeError(`flows ${count}: the host has not so many free ports in a row from ${FIRST_PORT} on`);
}
