/** Steering: which frames of an interface go to AF_XDP sockets. The control side of the program in code.ts. */
import {
  attachXdp,
  BPF_F_NO_PREALLOC,
  BpfMap,
  check,
  createMap,
  type Link,
  loadXdp,
  Program,
  sys,
  type XdpMode,
  XskMap,
} from "af-xdp-bindings";
import { isV4Mapped, unicastAddress } from "./address.ts";
import { dedicatedCode, steeringCode } from "./code.ts";
import {
  BOUND,
  BOUND_MAX,
  COUNTERS,
  type CounterName,
  type Family,
  HOST,
  INLINE_LOCALS,
  LOCALS_MAX,
  OVERFLOW_V4,
  OVERFLOW_V6,
  PORT,
  PORTS,
  type Protocol,
  portIndex,
  STAMP,
} from "./layout.ts";
import { emptySlot, PortEntry, slotValue } from "./port-entry.ts";

export interface SteeringOptions {
  /** The interface's MAC address, 6 bytes. */
  readonly mac: Uint8Array;
  /** Receive queues: entries of the XSKMAP. */
  readonly queues: number;
  /** Take frames in several buffers (jumbo, XDP_USE_SG); only the first is looked at. Default false. */
  readonly frags?: boolean;
  /** The engine has the interface for itself: everything for its MAC address and for groups is taken. Default false. */
  readonly dedicated?: boolean;
  /** The program's name; default "lcore". */
  readonly name?: string;
}

/** The descriptors behind a Steering: structured-cloneable, good in every thread of the process. */
export interface SteeringDescriptors {
  readonly program: number;
  readonly xskmap: number;
  readonly host: number;
  readonly ports: number;
  readonly bound: number;
  readonly locals: number;
  readonly counters: number;
}

const F_DUPFD_CLOEXEC = 1030;

interface Maps {
  readonly xskmap: XskMap;
  readonly host: BpfMap;
  readonly ports: BpfMap;
  readonly bound: BpfMap;
  readonly locals: BpfMap;
  readonly counters: BpfMap;
}

/**
 * The steering program with its maps. Any thread may hold one over the same descriptors, and a change takes effect for
 * the next frame; but changes are read-modify-write, so let one thread at a time make them.
 */
export class Steering {
  readonly program: Program;
  readonly #maps: Maps;

  private constructor(program: Program, maps: Maps) {
    this.program = program;
    this.#maps = maps;
  }

  /** Creates the maps and loads the program: no ports, no local addresses, every frame passes. */
  static load(options: SteeringOptions): Steering {
    const opened: { close(): void }[] = [];
    const open = <T extends { close(): void }>(resource: T): T => {
      opened.push(resource);
      return resource;
    };
    try {
      const maps: Maps = {
        xskmap: open(XskMap.create(options.queues)),
        host: open(array("host", 1, HOST.size)),
        ports: open(array("ports", PORTS, PORT.size)),
        bound: open(hash("bound", BOUND_MAX, BOUND.size)),
        locals: open(hash("locals", 2 * LOCALS_MAX, 16)),
        counters: open(
          createMap({
            type: "BPF_MAP_TYPE_PERCPU_ARRAY",
            name: "counters",
            keySize: 4,
            valueSize: 8,
            maxEntries: COUNTERS.length,
          }),
        ),
      };
      const code = options.dedicated ? dedicatedCode(maps) : steeringCode(maps);
      const program = open(loadXdp(code, { name: options.name ?? "lcore", frags: options.frags }));
      const steering = new Steering(program, maps);
      steering.#writeHost(options.mac, []);
      return steering;
    } catch (error) {
      for (const resource of opened) resource.close();
      throw error;
    }
  }

  /** The same program and maps under descriptors of its own, so either side may close first. */
  static fromDescriptors(descriptors: SteeringDescriptors): Steering {
    const opened: number[] = [];
    const duplicate = (fd: number): number => {
      const copy = check(sys.sys3(sys.SYS.fcntl, fd, F_DUPFD_CLOEXEC, 0), "fcntl(F_DUPFD_CLOEXEC)", {
        EBADF: "the Steering these descriptors are from is closed",
      });
      opened.push(copy);
      return copy;
    };
    try {
      return new Steering(new Program(duplicate(descriptors.program)), {
        xskmap: new XskMap(duplicate(descriptors.xskmap)),
        host: new BpfMap(duplicate(descriptors.host)),
        ports: new BpfMap(duplicate(descriptors.ports)),
        bound: new BpfMap(duplicate(descriptors.bound)),
        locals: new BpfMap(duplicate(descriptors.locals)),
        counters: new BpfMap(duplicate(descriptors.counters)),
      });
    } catch (error) {
      for (const fd of opened) sys.close(fd);
      throw error;
    }
  }

  get xskmap(): XskMap {
    return this.#maps.xskmap;
  }

  descriptors(): SteeringDescriptors {
    const { xskmap, host, ports, bound, locals, counters } = this.#maps;
    return {
      program: this.program.fd,
      xskmap: xskmap.fd,
      host: host.fd,
      ports: ports.fd,
      bound: bound.fd,
      locals: locals.fd,
      counters: counters.fd,
    };
  }

  /** Wildcard bindings of a port: V4_ANY, V6_ANY and STAMP, or 0 for none. Bound addresses stay. */
  setPort(protocol: Protocol, port: number, flags: number): void {
    const entry = this.#port(protocol, port);
    entry.setWildcard(flags);
    this.#writePort(protocol, port, entry);
  }

  /** The port's flags, with V4_ADDRESS and V6_ADDRESS where addresses are bound. */
  getPort(protocol: Protocol, port: number): number {
    return this.#port(protocol, port).flags;
  }

  /**
   * Takes frames to one address and port, whether or not setLocals has the address. `address` is 4 or 16 bytes, a
   * unicast one; `flags` 0 or STAMP. Binding again sets the flags.
   */
  bindAddress(protocol: Protocol, family: Family, address: Uint8Array, port: number, flags = 0): void {
    if (flags & ~STAMP) throw new RangeError(`flags ${flags} of a bound address: STAMP only`);
    const key = boundKey(protocol, family, address, port);
    const isNew = this.#maps.bound.lookup(key) === undefined;
    const entry = this.#port(protocol, port);
    entry.bind(family, unicastAddress(address), flags, isNew);
    this.#maps.bound.update(key, u32(flags));
    this.#writePort(protocol, port, entry);
  }

  /** Whether the address was bound. */
  unbindAddress(protocol: Protocol, family: Family, address: Uint8Array, port: number): boolean {
    const key = boundKey(protocol, family, address, port);
    if (!this.#maps.bound.delete(key)) return false;
    const entry = this.#port(protocol, port);
    entry.unbind(family, unicastAddress(address));
    this.#writePort(protocol, port, entry);
    return true;
  }

  /**
   * The host's unicast addresses, 4 or 16 bytes each: those a wildcard binding stands for. The first four of a family
   * are the cheapest to match. Throws RangeError with more than LOCALS_MAX beyond those.
   */
  setLocals(addresses: readonly Uint8Array[]): void {
    const mac = this.#readHost().subarray(HOST.mac, HOST.mac + 6);
    this.#writeHost(mac, addresses);
  }

  /** The interface's MAC address, 6 bytes. */
  setMac(mac: Uint8Array): void {
    checkMac(mac);
    const host = this.#readHost();
    host.set(mac, HOST.mac);
    this.#maps.host.update(u32(0), host);
  }

  /** Frames by what became of them, since the program was loaded. */
  counters(): Record<CounterName, number> {
    const result = {} as Record<CounterName, number>;
    COUNTERS.forEach((name, index) => {
      result[name] = this.#counter(index);
    });
    return result;
  }

  /** Attaches the program to an interface of the calling thread's network namespace. */
  attach(ifindex: number, mode: XdpMode): Link {
    return attachXdp(this.program, ifindex, mode);
  }

  /** Closes the descriptors. A link keeps the program and its maps working. */
  close(): void {
    this.program.close();
    for (const map of Object.values(this.#maps)) map.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #counter(index: number): number {
    const { counters } = this.#maps;
    const values = new DataView(present(counters.lookup(u32(index))).buffer);
    let sum = 0;
    for (let at = 0; at < values.byteLength; at += counters.stride) {
      sum += values.getUint32(at + 4, true) * 2 ** 32 + values.getUint32(at, true);
    }
    return sum;
  }

  #port(protocol: Protocol, port: number): PortEntry {
    checkPort(port);
    return new PortEntry(present(this.#maps.ports.lookup(u32(portIndex(protocol, port)))));
  }

  #writePort(protocol: Protocol, port: number, entry: PortEntry): void {
    this.#maps.ports.update(u32(portIndex(protocol, port)), entry.bytes);
  }

  #readHost(): Uint8Array {
    return present(this.#maps.host.lookup(u32(0)));
  }

  /** `locals` gains entries before `host` tells of them and loses them after, so an address that stays never misses. */
  #writeHost(mac: Uint8Array, addresses: readonly Uint8Array[]): void {
    checkMac(mac);
    const unique = uniqueAddresses(addresses);
    const v4 = unique.filter((address) => isV4Mapped(address));
    const v6 = unique.filter((address) => !isV4Mapped(address));
    const overflow = [...v4.slice(INLINE_LOCALS), ...v6.slice(INLINE_LOCALS)];
    if (overflow.length > LOCALS_MAX) throw new RangeError(`${addresses.length} local addresses are too many`);
    const { locals, host } = this.#maps;
    for (const address of overflow) locals.update(address, u32(1));
    host.update(u32(0), hostValue(mac, v4, v6));
    const wanted = new Set(overflow.map((address) => address.toHex()));
    for (const address of [...locals.keys()]) if (!wanted.has(address.toHex())) locals.delete(address);
  }
}

function array(name: string, maxEntries: number, valueSize: number): BpfMap {
  return createMap({ type: "BPF_MAP_TYPE_ARRAY", name, keySize: 4, valueSize, maxEntries });
}

/** Not preallocated: the tables are large and mostly empty. */
function hash(name: string, maxEntries: number, keySize: number): BpfMap {
  return createMap({ type: "BPF_MAP_TYPE_HASH", name, keySize, valueSize: 4, maxEntries, flags: BPF_F_NO_PREALLOC });
}

function hostValue(mac: Uint8Array, v4: readonly Uint8Array[], v6: readonly Uint8Array[]): Uint8Array {
  const value = new Uint8Array(HOST.size);
  const overflow = (v4.length > INLINE_LOCALS ? OVERFLOW_V4 : 0) | (v6.length > INLINE_LOCALS ? OVERFLOW_V6 : 0);
  value.set(mac, HOST.mac);
  value[HOST.overflow] = overflow;
  for (let i = 0; i < INLINE_LOCALS; i++) {
    value.set(i < v4.length ? slotValue(4, v4[i]) : emptySlot(4), HOST.v4 + 8 * i);
    value.set(i < v6.length ? slotValue(6, v6[i]) : emptySlot(6), HOST.v6 + 16 * i);
  }
  return value;
}

function boundKey(protocol: Protocol, family: Family, address: Uint8Array, port: number): Uint8Array {
  checkPort(port);
  const mapped = unicastAddress(address);
  if (isV4Mapped(mapped) !== (family === 4)) throw new RangeError(`${address.toHex()} is not an IPv${family} address`);
  const key = new Uint8Array(BOUND.size);
  key[BOUND.protocol] = protocol;
  key[BOUND.family] = family;
  new DataView(key.buffer).setUint16(BOUND.port, port, false);
  key.set(mapped, BOUND.address);
  return key;
}

/** As 16 bytes each, in order, each once. */
function uniqueAddresses(addresses: readonly Uint8Array[]): Uint8Array[] {
  const mapped = addresses.map(unicastAddress);
  return [...new Map(mapped.map((address) => [address.toHex(), address])).values()];
}

function checkMac(mac: Uint8Array): void {
  if (mac.length !== 6) throw new RangeError(`MAC address of ${mac.length} bytes`);
}

function checkPort(port: number): void {
  if (!Number.isInteger(port) || port < 0 || port > 65535) throw new RangeError(`port ${port}`);
}

/** An array map has all its entries from the start. */
function present(value: Uint8Array | undefined): Uint8Array {
  if (value === undefined) throw new Error("an array map lacks an entry below maxEntries");
  return value;
}

function u32(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, value, true);
  return bytes;
}
