/** SOL_SOCKET of AF_UNIX: each option through its values and lengths, on fresh sockets and on others, and what options do together. */
import { SHUT_RD, SOCK_STREAM } from "../../../sockets/calls/constants.ts";
import { controlInt } from "../../../sockets/calls/control.ts";
import type { SocketCalls } from "../../../sockets/calls/socket-calls.ts";
import {
  SO_ACCEPTCONN,
  SO_BINDTODEVICE,
  SO_BINDTOIFINDEX,
  SO_BROADCAST,
  SO_BSDCOMPAT,
  SO_BUF_LOCK,
  SO_BUSY_POLL,
  SO_COOKIE,
  SO_DEBUG,
  SO_DETACH_FILTER,
  SO_DOMAIN,
  SO_DONTROUTE,
  SO_ERROR,
  SO_INCOMING_CPU,
  SO_INCOMING_NAPI_ID,
  SO_INQ,
  SO_KEEPALIVE,
  SO_LINGER,
  SO_LOCK_FILTER,
  SO_MARK,
  SO_MAX_PACING_RATE,
  SO_MEMINFO,
  SO_NETNS_COOKIE,
  SO_NO_CHECK,
  SO_NOFCS,
  SO_OOBINLINE,
  SO_PASSCRED,
  SO_PASSPIDFD,
  SO_PASSRIGHTS,
  SO_PASSSEC,
  SO_PEEK_OFF,
  SO_PEERCRED,
  SO_PEERGROUPS,
  SO_PEERSEC,
  SO_PRIORITY,
  SO_PROTOCOL,
  SO_RCVBUF,
  SO_RCVBUFFORCE,
  SO_RCVLOWAT,
  SO_RCVTIMEO,
  SO_REUSEADDR,
  SO_REUSEPORT,
  SO_RXQ_OVFL,
  SO_SELECT_ERR_QUEUE,
  SO_SNDBUF,
  SO_SNDBUFFORCE,
  SO_SNDLOWAT,
  SO_SNDTIMEO,
  SO_TIMESTAMP,
  SO_TIMESTAMP_NEW,
  SO_TIMESTAMPNS,
  SO_TIMESTAMPNS_NEW,
  SO_TXREHASH,
  SO_TYPE,
  SOL_SOCKET,
} from "../../../sockets/options.ts";
import { NUMBERS } from "../../options/numbers.ts";
import {
  abstractName,
  bytes,
  closeAll,
  connection,
  optionOf,
  pairOf,
  type Record,
  send,
  setOption,
  socketOf,
  TYPES,
  type UnixScenario,
} from "./tools.ts";

const OPTIONS = {
  SO_ACCEPTCONN,
  SO_BINDTODEVICE,
  SO_BINDTOIFINDEX,
  SO_BROADCAST,
  SO_BSDCOMPAT,
  SO_BUF_LOCK,
  SO_BUSY_POLL,
  SO_DEBUG,
  SO_DETACH_FILTER,
  SO_DOMAIN,
  SO_DONTROUTE,
  SO_ERROR,
  SO_INCOMING_CPU,
  SO_INCOMING_NAPI_ID,
  SO_INQ,
  SO_KEEPALIVE,
  SO_LINGER,
  SO_LOCK_FILTER,
  SO_MARK,
  SO_MAX_PACING_RATE,
  SO_MEMINFO,
  SO_NETNS_COOKIE,
  SO_NO_CHECK,
  SO_NOFCS,
  SO_OOBINLINE,
  SO_PASSCRED,
  SO_PASSPIDFD,
  SO_PASSRIGHTS,
  SO_PASSSEC,
  SO_PEEK_OFF,
  SO_PEERCRED,
  SO_PEERGROUPS,
  SO_PEERSEC,
  SO_PRIORITY,
  SO_PROTOCOL,
  SO_RCVBUF,
  SO_RCVBUFFORCE,
  SO_RCVLOWAT,
  SO_RCVTIMEO,
  SO_REUSEADDR,
  SO_REUSEPORT,
  SO_RXQ_OVFL,
  SO_SELECT_ERR_QUEUE,
  SO_SNDBUF,
  SO_SNDBUFFORCE,
  SO_SNDLOWAT,
  SO_SNDTIMEO,
  SO_TIMESTAMP,
  SO_TIMESTAMP_NEW,
  SO_TIMESTAMPNS,
  SO_TIMESTAMPNS_NEW,
  SO_TXREHASH,
  SO_TYPE,
};

const LENGTHS = [0, 1, 2, 3, 4, 5, 7, 8, 12, 16, 24, 40, 64];

function playOption(calls: SocketCalls, record: Record, fd: number, name: number): void {
  for (const length of LENGTHS) record(`get ${length}`, optionOf(calls, fd, name, length));
  for (const value of NUMBERS) record(`set ${value}`, [setOption(calls, fd, name, value), optionOf(calls, fd, name)]);
  for (const length of LENGTHS) {
    const value = new Uint8Array(length);
    if (length > 0) value[0] = 1;
    record(`set ${length} bytes`, [calls.setsockopt(fd, SOL_SOCKET, name, value), optionOf(calls, fd, name, 24)]);
  }
}

const each: UnixScenario[] = TYPES.flatMap(([label, type]) =>
  Object.entries(OPTIONS).map(([option, name]) => ({
    name: `${label}: ${option}, its values and lengths`,
    play(calls, record) {
      const fd = socketOf(calls, type);
      playOption(calls, record, fd, name);
      closeAll(calls, fd);
      const [a, b] = pairOf(calls, type);
      playOption(calls, record, a, name);
      record("at the peer", optionOf(calls, b, name, 24));
      closeAll(calls, a, b);
    },
  })),
);

/** What accept(2) hands on. */
const inherited: UnixScenario[] = (["stream", "seqpacket"] as const).map((label) => ({
  name: `${label}: what a connection has of its listener and its client`,
  play(calls, record) {
    const type = TYPES.find(([name]) => name === label)![1];
    const all = Object.entries(OPTIONS).filter(
      ([option]) => !/FORCE|LOCK_FILTER|BINDTO|_FILTER|TIMEO|LINGER|MEMINFO|BUF_LOCK/.test(option),
    );
    const listener = socketOf(calls, type);
    const client = socketOf(calls, type);
    for (const [, name] of all) {
      setOption(calls, listener, name, 3);
      setOption(calls, listener, SO_PASSRIGHTS, 0);
    }
    calls.bind(listener, abstractName("bequest"));
    calls.listen(listener, 2);
    setOption(calls, client, SO_SNDBUF, 9000);
    setOption(calls, client, SO_OOBINLINE, 1);
    record("connect", calls.connect(client, abstractName("bequest")));
    setOption(calls, listener, SO_PASSCRED, 0);
    setOption(calls, listener, SO_PASSPIDFD, 0);
    const accepted = calls.accept4(listener, null, 0);
    for (const [option, name] of all)
      record(option, [optionOf(calls, accepted, name, 24), optionOf(calls, client, name, 24)]);
    closeAll(calls, listener, client, accepted);
  },
}));

const together: UnixScenario[] = [
  {
    name: "times of arrival: the last of the four that is set holds, and any of them unsets it",
    play(calls, record) {
      const [a, b] = pairOf(calls, SOCK_STREAM);
      const four = [SO_TIMESTAMP, SO_TIMESTAMPNS, SO_TIMESTAMP_NEW, SO_TIMESTAMPNS_NEW];
      const state = (): unknown => four.map((name) => optionOf(calls, a, name));
      for (const first of four) {
        for (const second of four) {
          for (const value of [1, 0]) {
            setOption(calls, a, first, 1);
            setOption(calls, a, second, value);
            record(`${first}, ${second} to ${value}`, state());
          }
        }
      }
      closeAll(calls, a, b);
    },
  },
  {
    name: "buffer sizes and SO_BUF_LOCK",
    play(calls, record) {
      const [a, b] = pairOf(calls, SOCK_STREAM);
      const state = (): unknown => [SO_SNDBUF, SO_RCVBUF, SO_BUF_LOCK].map((name) => optionOf(calls, a, name));
      record("first", state());
      for (const name of [SO_SNDBUF, SO_SNDBUFFORCE, SO_RCVBUF, SO_RCVBUFFORCE, SO_BUF_LOCK]) {
        for (const value of [5000, 0, 3, 20_000_000, -5, 1]) {
          record(`${name} to ${value}`, [setOption(calls, a, name, value), state()]);
        }
      }
      closeAll(calls, a, b);
    },
  },
  {
    name: "SO_LINGER: numbers that are large, negative, off",
    play(calls, record) {
      const [a, b] = pairOf(calls, SOCK_STREAM);
      for (const [on, seconds] of [
        [1, 5],
        [0, 9],
        [2, 0],
        [1, -1],
        [1, 2 ** 31 - 1],
        [-1, 100],
        [0, 0],
      ]) {
        const value = new Uint8Array(Int32Array.of(on, seconds).buffer);
        record(`${on}, ${seconds}`, [
          calls.setsockopt(a, SOL_SOCKET, SO_LINGER, value),
          optionOf(calls, a, SO_LINGER, 8),
        ]);
      }
      closeAll(calls, a, b);
    },
  },
  {
    name: "SO_RCVTIMEO and SO_SNDTIMEO: seconds and microseconds",
    play(calls, record) {
      const [a, b] = pairOf(calls, SOCK_STREAM);
      for (const name of [SO_RCVTIMEO, SO_SNDTIMEO]) {
        for (const [seconds, micros] of [
          [0n, 0n],
          [1n, 4000n],
          [1n, 1n],
          [0n, 999_999n],
          [0n, 1_000_000n],
          [0n, -1n],
          [-1n, 5n],
          [2n ** 40n, 0n],
        ]) {
          const value = new Uint8Array(BigInt64Array.of(seconds, micros).buffer);
          record(`${name}: ${seconds}, ${micros}`, [
            calls.setsockopt(a, SOL_SOCKET, name, value),
            optionOf(calls, a, name, 16),
            optionOf(calls, a, name, 7),
          ]);
        }
      }
      closeAll(calls, a, b);
    },
  },
  {
    name: "SO_BINDTODEVICE: names, numbers, none",
    play(calls, record) {
      const [a, b] = pairOf(calls, SOCK_STREAM);
      const name = (text: string): Uint8Array => new TextEncoder().encode(text);
      const state = (): unknown => [
        optionOf(calls, a, SO_BINDTOIFINDEX),
        ...[0, 3, 15, 16, 40].map((length) => optionOf(calls, a, SO_BINDTODEVICE, length)),
      ];
      for (const value of [
        "lo",
        "lo\0",
        "lo\0more",
        "nosuch0",
        "",
        "\0",
        "a name much longer than any interface has",
      ]) {
        record(JSON.stringify(value), [calls.setsockopt(a, SOL_SOCKET, SO_BINDTODEVICE, name(value)), state()]);
      }
      for (const index of [1, 77, -1, 0]) record(`${index}`, [setOption(calls, a, SO_BINDTOIFINDEX, index), state()]);
      closeAll(calls, a, b);
    },
  },
  {
    name: "SO_LOCK_FILTER: once and for all",
    play(calls, record) {
      const fd = socketOf(calls, SOCK_STREAM);
      record("before", [setOption(calls, fd, SO_DETACH_FILTER, 0), setOption(calls, fd, SO_LOCK_FILTER, 0)]);
      record("set", [setOption(calls, fd, SO_LOCK_FILTER, 5), optionOf(calls, fd, SO_LOCK_FILTER)]);
      record("again", setOption(calls, fd, SO_LOCK_FILTER, 1));
      record("unset", [setOption(calls, fd, SO_LOCK_FILTER, 0), optionOf(calls, fd, SO_LOCK_FILTER)]);
      record("detach", setOption(calls, fd, SO_DETACH_FILTER, 0));
      closeAll(calls, fd);
    },
  },
  {
    name: "SO_MAX_PACING_RATE in 32 and 64 bits",
    play(calls, record) {
      const [a, b] = pairOf(calls, SOCK_STREAM);
      const state = (): unknown => [4, 7, 8, 16].map((length) => optionOf(calls, a, SO_MAX_PACING_RATE, length));
      record("first", state());
      for (const value of [
        controlInt(5),
        controlInt(-1),
        new Uint8Array(8).fill(1),
        new Uint8Array(12).fill(255),
        bytes(1, 2),
      ]) {
        record(value.toHex(), [calls.setsockopt(a, SOL_SOCKET, SO_MAX_PACING_RATE, value), state()]);
      }
      closeAll(calls, a, b);
    },
  },
  {
    name: "SO_COOKIE: one for each socket, always the same",
    play(calls, record) {
      const [a, b] = pairOf(calls, SOCK_STREAM);
      record("the same", optionOf(calls, a, SO_COOKIE, 8) === optionOf(calls, a, SO_COOKIE, 16));
      record("another's", optionOf(calls, a, SO_COOKIE, 8) === optionOf(calls, b, SO_COOKIE, 8));
      record("in little room", optionOf(calls, a, SO_COOKIE, 7));
      record("set", setOption(calls, a, SO_COOKIE, 1));
      closeAll(calls, a, b);
    },
  },
  {
    name: "SO_PEERCRED and SO_PEERGROUPS: of pairs, listeners, clients, connections",
    play(calls, record) {
      const told = (fd: number): unknown => [
        optionOf(calls, fd, SO_PEERCRED, 12),
        optionOf(calls, fd, SO_PEERGROUPS, 256),
      ];
      for (const [label, type] of TYPES) {
        const fd = socketOf(calls, type);
        record(`${label}, fresh`, told(fd));
        const [listener, client, accepted] = connection(calls, type, "credentials");
        record(`${label}, listener`, told(listener));
        record(`${label}, client`, told(client));
        if (accepted >= 0) record(`${label}, connection`, told(accepted));
        const [a, b] = pairOf(calls, type);
        calls.close(b);
        record(`${label}, pair`, told(a));
        closeAll(calls, fd, listener, client, accepted, a);
      }
    },
  },
  {
    name: "SO_MEMINFO counts what is under way",
    play(calls, record) {
      const [a, b] = pairOf(calls, SOCK_STREAM);
      record("nothing", optionOf(calls, a, SO_MEMINFO, 36));
      send(calls, a, new Uint8Array(5000));
      record("sent", [optionOf(calls, a, SO_MEMINFO, 36), optionOf(calls, b, SO_MEMINFO, 36)]);
      calls.read(b, new Uint8Array(9000));
      record("read", optionOf(calls, a, SO_MEMINFO, 36));
      closeAll(calls, a, b);
    },
  },
  {
    name: "other levels",
    play(calls, record) {
      for (const [label, type] of TYPES) {
        const fd = socketOf(calls, type);
        for (const level of [0, 6, 17, 41, 255, -1]) {
          record(`${label}, ${level}`, [
            calls.setsockopt(fd, level, 1, controlInt(1)),
            calls.setsockopt(fd, level, 1, new Uint8Array(1)),
            calls.getsockopt(fd, level, 1, new Uint8Array(4)),
          ]);
        }
        closeAll(calls, fd);
      }
    },
  },
  {
    name: "options that there are none of",
    play(calls, record) {
      const fd = socketOf(calls, SOCK_STREAM);
      for (const name of [0, -1, 999, 22, 23, 24, 0x10007]) {
        record(`${name}`, [
          setOption(calls, fd, name, 1),
          calls.setsockopt(fd, SOL_SOCKET, name, bytes(1)),
          optionOf(calls, fd, name),
        ]);
      }
      closeAll(calls, fd);
    },
  },
  {
    name: "SO_ERROR is told once, and SO_ACCEPTCONN by who listens",
    play(calls, record) {
      const [a, b] = pairOf(calls, SOCK_STREAM);
      send(calls, a, bytes(1));
      calls.close(b);
      record("error", [optionOf(calls, a, SO_ERROR, 2), optionOf(calls, a, SO_ERROR)]);
      const listener = socketOf(calls, SOCK_STREAM);
      calls.bind(listener, abstractName("accepts"));
      record("before", optionOf(calls, listener, SO_ACCEPTCONN));
      calls.listen(listener, 0);
      record("listening", optionOf(calls, listener, SO_ACCEPTCONN));
      calls.shutdown(listener, SHUT_RD);
      record("shut", optionOf(calls, listener, SO_ACCEPTCONN));
      closeAll(calls, a, listener);
    },
  },
];

export const OPTION_SCENARIOS: readonly UnixScenario[] = [...each, ...inherited, ...together];
