/** Who may bind and who may listen at a TCP port: the socket table's answers against the kernel's own. */
import { afterAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { ERRNO, errnoName, sys } from "af-xdp-bindings";
import { Random } from "../../queues/random.ts";
import { attachGroupClassic } from "../../sockets/bpf/attach.ts";
import { decodeClassic, encodeClassic, sockFprog } from "../../sockets/bpf/classic.ts";
import { addressWords } from "../../sockets/fib.ts";
import { SO_ATTACH_REUSEPORT_CBPF, SO_REUSEADDR, SO_REUSEPORT, SOL_SOCKET } from "../../sockets/options.ts";
import {
  DEVICE,
  F_LISTEN,
  F_REUSEADDR,
  F_REUSEPORT,
  F_V6ONLY,
  FLAGS,
  GROUP,
  IPPROTO_TCP,
  LOCAL,
  LOCAL_PORT,
  SocketTable,
  STATE,
  UID,
} from "../../sockets/table.ts";
import { ip } from "../../sockets/wire/address.ts";
import { describeWish, familyOf, KernelHost, LO, SOCK_STREAM, type Wish, wish } from "../sockets/kernel-sockets.ts";
import { requires } from "../support/hosts.ts";

setDefaultTimeout(120_000);

const PORT = 7000;
const ADDRESSES = ["0.0.0.0", "198.18.0.1", "198.18.0.10", "::", "2001:db8::1", "::ffff:198.18.0.1", "::ffff:0.0.0.0"];
const SHUT_RD = 0;
const OPTMEM = 131072;
const PROGRAM = "1,6 0 0 0";

function bindInTable(table: SocketTable, { address, family, ...wanted }: Wish, uid = 0): number {
  const id = table.create(family, IPPROTO_TCP, 1, 0, 0);
  const result = table.mutex.hold(() => {
    const words = addressWords(ip(address));
    for (let i = 0; i < 4; i++) table.set(id, LOCAL + i, words[i]);
    table.set(id, LOCAL_PORT, PORT);
    table.set(id, UID, uid);
    table.set(id, DEVICE, wanted.device);
    const isOnly6 = wanted.only6 || (words[2] !== 0xffff && !table.isAny(id));
    const flags = (wanted.reuseAddress ? F_REUSEADDR : 0) | (wanted.reusePort ? F_REUSEPORT : 0);
    table.set(id, FLAGS, flags | (isOnly6 ? F_V6ONLY : 0));
    return table.bindLocked(id);
  });
  if (result < 0) close(table, id);
  return result < 0 ? result : id;
}

const listen = (table: SocketTable, id: number): number => table.mutex.hold(() => table.listenLocked(id));
const unlisten = (table: SocketTable, id: number): void => table.mutex.hold(() => table.unlistenLocked(id));
const close = (table: SocketTable, id: number): void => table.mutex.hold(() => table.closeLocked(id));
const members = (table: SocketTable, id: number): number[] => {
  const group = table.get(id, GROUP);
  return Array.from({ length: table.groups.count(group) }, (_, i) => table.groups.member(group, i));
};

const all: Wish[] = ADDRESSES.flatMap((address) =>
  [0, LO].flatMap((device) =>
    [false, true].flatMap((reuseAddress) =>
      [false, true].flatMap((reusePort) =>
        // A mapped address on an IPv6-only socket is refused before any conflict is looked for.
        (address.includes(":") && !address.startsWith("::ffff") ? [false, true] : [false]).map((only6) => ({
          address,
          family: familyOf(address),
          reuseAddress,
          reusePort,
          only6,
          device,
        })),
      ),
    ),
  ),
);

describe.skipIf(requires("netns") !== "")("as the kernel decides", () => {
  const host = requires("netns") === "" ? new KernelHost(["198.18.0.1", "198.18.0.10", "2001:db8::1"]) : null;
  const kernel = host as KernelHost;
  afterAll(() => host?.close());

  const table = SocketTable.create(64, 1);

  /** One port in both worlds; the first difference in words. */
  class Both {
    readonly table = table;
    readonly sockets: { fd: number; id: number; text: string }[] = [];
    readonly history: string[] = [];
    wrong = "";
    refused = 0;

    bind(wanted: Wish): void {
      const fd = kernel.bind(wanted, PORT, SOCK_STREAM);
      const id = bindInTable(this.table, wanted);
      const text = describeWish(wanted);
      this.agree(`bind ${text}`, fd, id);
      if (fd >= 0 && id >= 0) this.sockets.push({ fd, id, text });
      else if (fd >= 0) sys.close(fd);
    }

    listen(at: number): void {
      const { fd, id, text } = this.sockets[at];
      this.agree(`listen ${at} ${text}`, sys.sys3(sys.SYS.listen, fd, 8, 0), listen(this.table, id));
    }

    unlisten(at: number): void {
      const { fd, id } = this.sockets[at];
      if ((this.table.get(id, FLAGS) & F_LISTEN) === 0) return;
      unlisten(this.table, id);
      this.agree(`shutdown ${at}`, sys.sys3(sys.SYS.shutdown, fd, SHUT_RD, 0), 0);
    }

    close(at: number): void {
      const [{ fd, id }] = this.sockets.splice(at, 1);
      sys.close(fd);
      close(this.table, id);
      this.history.push(`close ${at}`);
    }

    setReuse(at: number, bit: number, on: boolean): void {
      const { fd, id } = this.sockets[at];
      const flags = this.table.get(id, FLAGS);
      this.table.set(id, FLAGS, on ? flags | bit : flags & ~bit);
      const result = sys.setsockoptInt(fd, SOL_SOCKET, bit === F_REUSEADDR ? SO_REUSEADDR : SO_REUSEPORT, Number(on));
      this.agree(`${bit === F_REUSEADDR ? "reuseaddr" : "reuseport"} ${at} ${on}`, result, 0);
    }

    program(at: number): void {
      const { fd, id } = this.sockets[at];
      const told = sys.setsockopt(fd, SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, sockFprog(PROGRAM));
      const mine = attachGroupClassic(this.table, id, encodeClassic(decodeClassic(PROGRAM)), OPTMEM);
      this.agree(`program ${at}`, told, mine);
    }

    end(): string {
      for (const { fd } of this.sockets) sys.close(fd);
      table.closeAll();
      return this.wrong;
    }

    private agree(what: string, kernelSaid: number, tableSaid: number): void {
      const name = (result: number): string => (result < 0 ? errnoName(-result) : "0");
      this.history.push(`${what}: ${name(kernelSaid)}`);
      if (kernelSaid < 0) this.refused++;
      if (this.wrong === "" && name(kernelSaid) !== name(tableSaid))
        this.wrong = `${this.history.join(", then ")}; here ${name(tableSaid)}`;
    }
  }

  test("every pair, the first one listening or not", () => {
    const wrong: string[] = [];
    let refused = 0;
    for (const first of all) {
      for (const second of all) {
        for (const listens of [false, true]) {
          const both = new Both();
          both.bind(first);
          if (listens) both.listen(0);
          both.bind(second);
          if (both.sockets.length === 2) both.listen(1);
          if (both.sockets.length === 2) both.listen(0);
          const text = both.end();
          if (text !== "") wrong.push(text);
          refused += both.refused;
        }
      }
    }
    expect(wrong.slice(0, 5)).toEqual([]);
    expect(refused).toBeGreaterThan(all.length ** 2 / 2);
  });

  test.each([false, true])("3,000 random sequences of 12 calls; with programs: %p", (withPrograms) => {
    const random = new Random(withPrograms ? 43 : 42);
    const wrong: string[] = [];
    let refused = 0;
    let done = 0;
    for (let i = 0; i < 3000 && wrong.length < 5; i++) {
      const both = new Both();
      both.bind(all[random.below(all.length)]);
      for (let n = 0; n < 12 && both.wrong === ""; n++) {
        const at = random.below(Math.max(1, both.sockets.length));
        const kind = random.below(withPrograms ? 12 : 10);
        if (kind < 4 || both.sockets.length === 0) both.bind(all[random.below(all.length)]);
        else if (kind < 7) both.listen(at);
        else if (kind === 7) both.unlisten(at);
        else if (kind === 8) both.close(at);
        else if (kind === 9)
          both.setReuse(at, random.below(2) === 0 ? F_REUSEADDR : F_REUSEPORT, random.below(2) === 0);
        else both.program(at);
      }
      const text = both.end();
      if (text !== "") wrong.push(text);
      refused += both.refused;
      done += both.history.length;
    }
    expect(wrong).toEqual([]);
    expect(refused).toBeGreaterThan(done / 10);
  });
});

describe("a table alone", () => {
  const shared = (address = "0.0.0.0", more: Partial<Wish> = {}): Wish => wish(address, { reusePort: true, ...more });

  test("refuses one user's reuseport port to another", () => {
    const table = SocketTable.create(16, 1);
    expect(bindInTable(table, shared(), 1000)).toBeGreaterThanOrEqual(0);
    expect(bindInTable(table, shared(), 1001)).toBe(-ERRNO.EADDRINUSE);
  });

  test("numbers the members of a group in the order in which they listen; the last moves into the hole", () => {
    const table = SocketTable.create(16, 1);
    const ids = Array.from({ length: 5 }, () => bindInTable(table, shared()));
    expect(ids.map((id) => table.get(id, GROUP))).toEqual([-1, -1, -1, -1, -1]);
    for (const i of [3, 0, 4, 1]) expect(listen(table, ids[i])).toBe(0);
    expect(members(table, ids[3])).toEqual([ids[3], ids[0], ids[4], ids[1]]);
    unlisten(table, ids[0]);
    expect(table.get(ids[0], GROUP)).toBe(-1);
    expect(members(table, ids[3])).toEqual([ids[3], ids[1], ids[4]]);
    close(table, ids[3]);
    expect(listen(table, ids[2])).toBe(0);
    expect(listen(table, ids[0])).toBe(0);
    expect(members(table, ids[4])).toEqual([ids[4], ids[1], ids[2], ids[0]]);
    // Again: nothing but news for the lcores.
    const version = table.version();
    expect(listen(table, ids[4])).toBe(0);
    expect(table.version()).toBe(version + 1);
    expect(members(table, ids[4])).toEqual([ids[4], ids[1], ids[2], ids[0]]);
  });

  test("keeps the port of what stops listening, and nothing of what closes", () => {
    const table = SocketTable.create(16, 1);
    const id = bindInTable(table, wish("0.0.0.0"));
    expect(listen(table, id)).toBe(0);
    unlisten(table, id);
    expect(bindInTable(table, wish("0.0.0.0"))).toBe(-ERRNO.EADDRINUSE);
    expect([table.get(id, STATE), table.get(id, LOCAL_PORT)]).toEqual([2, PORT]);
    close(table, id);
    expect(table.portInUse(IPPROTO_TCP, PORT)).toBe(false);
  });
});
