/** Socket filters of AF_UNIX: what is taken as one, and what it does to messages. */
import { FIONREAD, SHUT_RD, SIOCOUTQ, SOCK_DGRAM } from "../../../sockets/calls/constants.ts";
import {
  SO_ATTACH_BPF,
  SO_ATTACH_FILTER,
  SO_ATTACH_REUSEPORT_CBPF,
  SO_ATTACH_REUSEPORT_EBPF,
  SO_DETACH_FILTER,
  SO_DETACH_REUSEPORT_BPF,
  SO_LOCK_FILTER,
  SO_MEMINFO,
  SO_PASSCRED,
  SOL_SOCKET,
} from "../../../sockets/options.ts";
import {
  AD,
  attach,
  CHECKED,
  hasByte,
  ifLoaded,
  LD_BYTE,
  LD_HALF,
  LD_IND_BYTE,
  LD_LENGTH,
  LD_WORD,
  LDX_IMM,
  LL,
  NET,
  POINTLESS,
  type Program,
  RET_A,
  ret,
} from "../filter-programs.ts";
import {
  abstractName,
  bytes,
  closeAll,
  ioctlOf,
  type LocalScenario,
  optionOf,
  pairOf,
  pattern,
  pollOf,
  rights,
  send,
  setOption,
  shownTake,
  socketOf,
  TYPES,
} from "./tools.ts";

const load = (code: number, k: number): Program => [
  [code, 0, 0, k],
  [RET_A, 0, 0, 0],
];
/** Keeps what begins with a byte. */
const startsWith = (byte: number): Program => hasByte(byte, 0);

const PROGRAMS: readonly (readonly [string, Program])[] = [
  ["all", ret(0xffffffff)],
  ["none", ret(0)],
  ["one byte", ret(1)],
  ["three bytes", ret(3)],
  ["a great many", ret(0x80000000)],
  ["as long as the first byte says", load(LD_BYTE, 0)],
  ["as long as the third byte says", load(LD_BYTE, 2)],
  ["by a half word", load(LD_HALF, 0)],
  ["by a word", load(LD_WORD, 1)],
  ["its length", load(LD_LENGTH, 0)],
  ["what begins with a 5", startsWith(5)],
  [
    "by an index",
    [
      [LDX_IMM, 0, 0, 1],
      [LD_IND_BYTE, 0, 0, 1],
      [RET_A, 0, 0, 0],
    ],
  ],
  ["if a far byte is there", ifLoaded(LD_BYTE, 30_000)],
  ["by its protocol", load(LD_HALF, AD)],
  ["if it has a protocol to be asked", ifLoaded(LD_HALF, AD)],
  ["if it has a kind", ifLoaded(LD_HALF, AD + 4)],
  ["if it has an interface", ifLoaded(LD_WORD, AD + 8)],
  ["by its mark", ifLoaded(LD_WORD, AD + 20)],
  ["by its queue", load(LD_WORD, AD + 24)],
  ["if it has a type of hardware", ifLoaded(LD_WORD, AD + 28)],
  ["by its hash", load(LD_WORD, AD + 32)],
  ["if it has a CPU", ifLoaded(LD_WORD, AD + 36)],
  ["by its tag", load(LD_WORD, AD + 44)],
  ["by its payload's offset", load(LD_WORD, AD + 52)],
  ["from the network header on", load(LD_BYTE, NET + 1)],
  ["from the link header on", ifLoaded(LD_BYTE, LL)],
];

const effects: LocalScenario[] = TYPES.flatMap(([label, type]) =>
  PROGRAMS.map(([what, program]) => ({
    name: `${label}: a filter that keeps ${what}`,
    play(calls, record) {
      const [a, b] = pairOf(calls, type);
      record("attached", attach(calls, b, program));
      for (const data of [bytes(), bytes(5), bytes(2, 9, 1, 0, 0), bytes(5, 4, 3, 2, 1), pattern(40_000)]) {
        record(`${data.length} sent`, [send(calls, a, data), ioctlOf(calls, a, SIOCOUTQ), ioctlOf(calls, b, FIONREAD)]);
        record("received", shownTake(calls, b, { room: 50_000 }));
      }
      record("detached", setOption(calls, b, SO_DETACH_FILTER, 0));
      record("sent", [send(calls, a, bytes(1, 2, 3)), shownTake(calls, b)]);
      closeAll(calls, a, b);
    },
  })),
);

const ATTACHING = [SO_ATTACH_FILTER, SO_ATTACH_REUSEPORT_CBPF];

const taken: LocalScenario[] = TYPES.flatMap(([label, type]) => [
  {
    name: `${label}: what is taken as a filter, and told of it`,
    play(calls, record) {
      const fd = socketOf(calls, type);
      const state = (): unknown => [
        optionOf(calls, fd, SO_ATTACH_FILTER, 0),
        optionOf(calls, fd, SO_MEMINFO, 36),
        optionOf(calls, fd, SO_LOCK_FILTER),
      ];
      record("none", state());
      for (const name of ATTACHING) {
        for (const [what, program] of CHECKED) {
          record(`${name}: ${what}`, [attach(calls, fd, program, name), state()]);
        }
        for (const value of [new Uint8Array(0), bytes(1), ...POINTLESS]) {
          record(`${name}: ${value.toHex()}`, calls.setsockopt(fd, SOL_SOCKET, name, value));
        }
        for (const length of [4, 8, 15, 17, 24]) {
          record(`${name}: ${length} bytes`, calls.setsockopt(fd, SOL_SOCKET, name, new Uint8Array(length).fill(1)));
        }
      }
      for (const name of [SO_ATTACH_BPF, SO_ATTACH_REUSEPORT_EBPF]) {
        record(`${name}: nothing`, setOption(calls, fd, name, 999_999));
        record(`${name}: negative`, setOption(calls, fd, name, -1));
        for (const length of [0, 2, 5, 8])
          record("length", calls.setsockopt(fd, SOL_SOCKET, name, new Uint8Array(length)));
        record("told", optionOf(calls, fd, name));
      }
      record("group's detached", [
        setOption(calls, fd, SO_DETACH_REUSEPORT_BPF, 0),
        optionOf(calls, fd, SO_DETACH_REUSEPORT_BPF),
      ]);
      closeAll(calls, fd);
    },
  },
  {
    name: `${label}: the filter itself is told where there is room`,
    play(calls, record) {
      const fd = socketOf(calls, type);
      attach(calls, fd, startsWith(9));
      const told = (room: number): unknown => {
        const out = new Uint8Array(Math.max(room, 32));
        const result = calls.getsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, out.subarray(0, room));
        return [result, out.toHex()];
      };
      // The length is of instructions.
      for (const room of [0, 1, 3, 32]) record(`${room}`, told(room));
      closeAll(calls, fd);
    },
  },
  {
    name: `${label}: SO_LOCK_FILTER keeps the filter, once and for all`,
    play(calls, record) {
      const [a, b] = pairOf(calls, type);
      record("attached", attach(calls, b, ret(2)));
      record("locked", [setOption(calls, b, SO_LOCK_FILTER, 1), optionOf(calls, b, SO_LOCK_FILTER)]);
      record("another", [attach(calls, b, ret(1)), attach(calls, b, ret(1), SO_ATTACH_REUSEPORT_CBPF)]);
      record("a wrong one", calls.setsockopt(b, SOL_SOCKET, SO_ATTACH_FILTER, POINTLESS[0]));
      record("by handle", [setOption(calls, b, SO_ATTACH_BPF, -1), setOption(calls, b, SO_ATTACH_REUSEPORT_EBPF, -1)]);
      record("detached", [setOption(calls, b, SO_DETACH_FILTER, 0), setOption(calls, b, SO_DETACH_REUSEPORT_BPF, 0)]);
      record("unlocked", setOption(calls, b, SO_LOCK_FILTER, 0));
      record("sent", [send(calls, a, bytes(1, 2, 3)), shownTake(calls, b)]);
      closeAll(calls, a, b);
    },
  },
  {
    name: `${label}: what goes along with a message that is dropped is gone, too`,
    play(calls, record) {
      const [a, b] = pairOf(calls, type);
      const [c, d] = pairOf(calls, type);
      setOption(calls, b, SO_PASSCRED, 1);
      attach(calls, b, startsWith(5));
      record(
        "sent",
        [bytes(4, 4), bytes(5, 5)].map((data) => send(calls, a, data, { control: [rights(c)] })),
      );
      calls.close(c);
      record("received", [shownTake(calls, b), shownTake(calls, b), pollOf(calls, b)]);
      record("closed", pollOf(calls, d));
      closeAll(calls, a, b, d);
    },
  },
]);

const order: LocalScenario[] = [
  {
    name: "dgram: the filter is asked before the queue, the peer and shutdown are",
    play(calls, record) {
      const name = abstractName("filtered");
      const receiver = socketOf(calls, SOCK_DGRAM);
      calls.bind(receiver, name);
      attach(calls, receiver, startsWith(5));
      const sender = socketOf(calls, SOCK_DGRAM);
      const both = (): unknown => [bytes(4), bytes(5)].map((data) => send(calls, sender, data, { to: name }));
      for (let i = 0; i < 12; i++) record(`${i}`, both());
      const other = socketOf(calls, SOCK_DGRAM);
      calls.bind(other, abstractName("filtered other"));
      calls.connect(receiver, abstractName("filtered other"));
      record("connected elsewhere", both());
      calls.connect(receiver, bytes(0, 0));
      calls.shutdown(receiver, SHUT_RD);
      record("shut", both());
      record(
        "to itself",
        [bytes(4), bytes(5)].map((data) => send(calls, receiver, data, { to: name })),
      );
      closeAll(calls, receiver, sender, other);
    },
  },
];

export const FILTER_SCENARIOS: readonly LocalScenario[] = [...effects, ...taken, ...order];
