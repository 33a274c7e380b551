/** Where the FIB's content comes from: the host's tables, or the configuration of a memory wire. */
import type { FibAddress, FibContent, FibRoute } from "../sockets/fib.ts";
import { ip } from "../sockets/wire/address.ts";
import type { MemoryLink } from "./config.ts";
import { RTN_UNICAST } from "./host/rtnetlink-uapi.ts";
import { type HostWatcher, isUsable } from "./host/watcher.ts";
import { MEMORY_IFINDEX, MEMORY_MTU } from "./wiring.ts";

/** An interface that does not exist: a route through it is left to the kernel. */
const KERNEL_ONLY = -1;

/** Everything the packet path may decide by itself; the rest is marked as the kernel's. */
export function hostFib(watcher: HostWatcher): FibContent {
  const addresses: FibAddress[] = watcher
    .links()
    .flatMap((link) => watcher.locals(link.ifindex).map((address) => ({ link, address })))
    .map(({ link, address }) => ({ ifindex: link.ifindex, address, prefixLength: prefixOf(watcher, address) }));
  return {
    links: watcher
      .links()
      .filter((link) => link.mac.length === 6)
      .map((link) => ({ ifindex: link.ifindex, mac: link.mac, mtu: link.mtu, up: (link.flags & 1) !== 0 })),
    addresses,
    routes: hostRoutes(watcher, addresses),
    neighbours: watcher
      .neighbours()
      .filter((entry) => isUsable(entry.state) && entry.mac?.length === 6)
      .map((entry) => ({ ifindex: entry.ifindex, address: entry.address, mac: entry.mac as Uint8Array })),
  };
}

function hostRoutes(watcher: HostWatcher, addresses: readonly FibAddress[]): FibRoute[] {
  return (watcher.prefixes() ?? []).map(({ destination, prefixLength, route }) => {
    const [hop] = route?.type === RTN_UNICAST ? route.nextHops : [];
    if (route === null || hop === undefined || (hop.gateway && hop.gateway.length !== destination.length)) {
      return { destination, prefixLength, ifindex: KERNEL_ONLY, metric: 0 };
    }
    return {
      destination,
      prefixLength,
      ifindex: hop.ifindex,
      gateway: hop.gateway ?? undefined,
      source: route.prefsrc ?? sourceFor(addresses, hop.ifindex, hop.gateway ?? destination),
      metric: route.priority,
      mtu: route.mtu,
    };
  });
}

/** Source address of a route that names none: one on the next hop's network, else the interface's first of the scope. */
function sourceFor(addresses: readonly FibAddress[], ifindex: number, towards: Uint8Array): Uint8Array | undefined {
  const candidates = addresses.filter((entry) => entry.ifindex === ifindex && entry.address.length === towards.length);
  const near = candidates.find((entry) => shareBits(entry.address, towards, entry.prefixLength));
  return (near ?? candidates.find((entry) => !isLinkLocal(entry.address)) ?? candidates[0])?.address;
}

function shareBits(a: Uint8Array, b: Uint8Array, bits: number): boolean {
  for (let i = 0; i < bits; i++) if (((a[i >> 3] ^ b[i >> 3]) & (0x80 >> (i & 7))) !== 0) return false;
  return true;
}

const isLinkLocal = (address: Uint8Array): boolean => address[0] === 0xfe && (address[1] & 0xc0) === 0x80;

function prefixOf(watcher: HostWatcher, address: Uint8Array): number {
  const key = address.join();
  return watcher.addresses().find((entry) => entry.local.join() === key)?.prefixLength ?? address.length * 8;
}

/** What a memory wire's configuration says: one link, its networks, its neighbours. */
export function memoryFib(link: MemoryLink): FibContent {
  const addresses = link.addresses.map((text) => {
    const [address, length] = text.split("/");
    const bytes = ip(address);
    return { ifindex: MEMORY_IFINDEX, address: bytes, prefixLength: Number(length ?? bytes.length * 8) };
  });
  return {
    links: [{ ifindex: MEMORY_IFINDEX, mac: link.mac, mtu: link.mtu ?? MEMORY_MTU, up: true }],
    addresses,
    routes: addresses.map(({ address, prefixLength }) => ({
      destination: address,
      prefixLength,
      ifindex: MEMORY_IFINDEX,
      source: address,
      metric: 0,
    })),
    neighbours: (link.neighbours ?? []).map(({ address, mac }) => ({
      ifindex: MEMORY_IFINDEX,
      address: ip(address),
      mac,
    })),
  };
}
