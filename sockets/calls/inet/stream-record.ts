/** The place of a stream socket in the socket table: it gets one when it needs a port of its own, or a group. */
import { sys } from "af-xdp-bindings";
import { recordPlace } from "../../bpf/attach.ts";
import type { Endpoint } from "../../endpoint.ts";
import * as numbers from "../../options.ts";
import { closeTcpRecord, openTcpRecord } from "../../stream/tcp-record.ts";
import * as table from "../../table.ts";
import { wordsAt } from "../../text-address.ts";
import type { StreamOptions } from "./stream-options.ts";

const { SOL_SOCKET, IPPROTO_IP, IPPROTO_IPV6 } = numbers;
const { AF_INET6 } = table;

export class StreamRecord {
  /** In the socket table, -1: none. */
  id = -1;
  private readonly endpoint: Endpoint;
  private readonly family: number;
  private readonly options: StreamOptions;

  constructor(endpoint: Endpoint, family: number, options: StreamOptions) {
    this.endpoint = endpoint;
    this.family = family;
    this.options = options;
  }

  /** A word of it as it is, or as a new one begins. */
  word(field: number): number {
    if (this.id >= 0) return this.endpoint.table.get(this.id, field);
    return field === table.INCOMING_CPU ? -1 : 0;
  }

  /** Its local address, four words. */
  get address(): ArrayLike<number> {
    return wordsAt(this.endpoint.table, this.id, table.LOCAL);
  }

  /** The address that bind(2) has given it, four words; zeroes for none, or any. */
  get boundAddress(): readonly number[] {
    return this.id < 0 || (this.word(table.FLAGS) & table.F_WILDCARD) !== 0 ? [0, 0, 0, 0] : Array.from(this.address);
  }

  /** Descriptor of the kernel's socket that stands for it, -1: there is none. */
  get placeholder(): number {
    return this.id < 0 ? -1 : this.word(table.PLACEHOLDER);
  }

  /** The record, which is made when there is none yet; or -errno. */
  need(): number {
    if (this.id >= 0) return this.id;
    const { options } = this;
    const is = (level: number, name: number): boolean => options.valueOf(level, name) !== 0;
    const id = openTcpRecord(this.endpoint, this.family, {
      reuseAddress: is(SOL_SOCKET, numbers.SO_REUSEADDR),
      reusePort: is(SOL_SOCKET, numbers.SO_REUSEPORT),
      ipv6Only: this.family === AF_INET6 ? is(IPPROTO_IPV6, numbers.IPV6_V6ONLY) : undefined,
      incomingCpu: options.valueOf(SOL_SOCKET, numbers.SO_INCOMING_CPU),
    });
    if (id < 0) return id;
    this.id = id;
    this.rulesChanged();
    return id;
  }

  close(): void {
    if (this.id >= 0) closeTcpRecord(this.endpoint, this.id);
    this.id = -1;
  }

  /** SO_BINDTOIFINDEX of one that is there: the kernel judges, by its own socket. 0 or -errno. */
  bindDevice(index: number): number {
    const { endpoint, id, placeholder } = this;
    const t = endpoint.table;
    const result = t.mutex.hold(() => {
      const told = placeholder < 0 ? 0 : sys.setsockoptInt(placeholder, SOL_SOCKET, numbers.SO_BINDTOIFINDEX, index);
      if (told < 0) return told;
      t.set(id, table.DEVICE, index);
      t.changed(id);
      return 0;
    });
    endpoint.tableChanged();
    return result;
  }

  /** Its filter, slot + 1, 0 for none: the record has a use of its own. */
  setFilter(filter: number): void {
    const { endpoint, id } = this;
    const t = endpoint.table;
    if (t.get(id, table.FILTER) === filter) return;
    t.mutex.hold(() => {
      if (filter !== 0) t.bpf.hold(filter - 1);
      recordPlace(t, id).put(filter);
    });
    endpoint.tableChanged();
  }

  isElsewhere(device: number): boolean {
    return device !== 0 && device !== this.endpoint.shared.ifindex;
  }

  /** Options have changed that decide over who may have a port. */
  rulesChanged(): void {
    const { endpoint, id, options, placeholder } = this;
    if (id < 0) return;
    const value = (level: number, name: number): number => options.valueOf(level, name);
    const freebind = value(IPPROTO_IP, numbers.IP_FREEBIND) | value(IPPROTO_IPV6, numbers.IPV6_FREEBIND);
    const late = value(IPPROTO_IP, numbers.IP_BIND_ADDRESS_NO_PORT);
    const flags: readonly (readonly [bit: number, level: number, name: number, value: number])[] = [
      [table.F_REUSEADDR, SOL_SOCKET, numbers.SO_REUSEADDR, value(SOL_SOCKET, numbers.SO_REUSEADDR)],
      [table.F_REUSEPORT, SOL_SOCKET, numbers.SO_REUSEPORT, value(SOL_SOCKET, numbers.SO_REUSEPORT)],
      [table.F_ANY_ADDRESS, IPPROTO_IP, numbers.IP_FREEBIND, freebind],
      [table.F_LATE_PORT, IPPROTO_IP, numbers.IP_BIND_ADDRESS_NO_PORT, late],
    ];
    const t = endpoint.table;
    t.mutex.hold(() => {
      let word = t.get(id, table.FLAGS);
      for (const [bit, level, name, on] of flags) {
        word = on !== 0 ? word | bit : word & ~bit;
        if (placeholder >= 0) sys.setsockoptInt(placeholder, level, name, on);
      }
      const v6only = value(IPPROTO_IPV6, numbers.IPV6_V6ONLY);
      if (this.family === AF_INET6 && t.get(id, table.LOCAL_PORT) === 0) {
        word = v6only !== 0 ? word | table.F_V6ONLY : word & ~table.F_V6ONLY;
        if (placeholder >= 0) sys.setsockoptInt(placeholder, IPPROTO_IPV6, numbers.IPV6_V6ONLY, v6only);
      }
      t.set(id, table.FLAGS, word);
      t.set(id, table.PORT_RANGE, value(IPPROTO_IP, numbers.IP_LOCAL_PORT_RANGE));
      t.set(id, table.INCOMING_CPU, value(SOL_SOCKET, numbers.SO_INCOMING_CPU));
      t.changed(id);
    });
    endpoint.tableChanged();
  }
}
