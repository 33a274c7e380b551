/** SIGIO, SIGURG and SIGPIPE as scenarios: which signals come, how often, and what they carry. */
import { sys } from "af-xdp-bindings";
import {
  AF_UNIX,
  F_OWNER_PID,
  F_OWNER_TID,
  F_SETFL,
  F_SETOWN_EX,
  F_SETSIG,
  MSG_DONTWAIT,
  MSG_NOSIGNAL,
  MSG_OOB,
  O_ASYNC,
  O_NONBLOCK,
  SHUT_RD,
  SHUT_RDWR,
  SHUT_WR,
  SIGIO,
  SIGPIPE,
  SIGURG,
  SOCK_DGRAM,
  SOCK_SEQPACKET,
  SOCK_STREAM,
} from "../../sockets/calls/constants.ts";
import type { SocketCalls } from "../../sockets/calls/socket-calls.ts";
import type { LocalScenario } from "./event-scenarios.ts";
import { HeldSignals } from "./signals.ts";

const QUEUED = 40;
const byte = Uint8Array.of(1);
const TYPES = [
  ["stream", SOCK_STREAM],
  ["dgram", SOCK_DGRAM],
  ["seqpacket", SOCK_SEQPACKET],
] as const;

/** What is done to a pair whose second socket has O_ASYNC. */
const DEEDS: readonly (readonly [string, (calls: SocketCalls, a: number, b: number) => void])[] = [
  ["one message", (calls, a) => void calls.write(a, byte)],
  [
    "three messages",
    (calls, a) => {
      for (let i = 0; i < 3; i++) calls.write(a, byte);
    },
  ],
  [
    "a message, read",
    (calls, a, b) => {
      calls.write(a, byte);
      calls.read(b, new Uint8Array(4));
    },
  ],
  ["peer shut for writing", (calls, a) => void calls.shutdown(a, SHUT_WR)],
  ["peer shut for reading", (calls, a) => void calls.shutdown(a, SHUT_RD)],
  ["peer shut", (calls, a) => void calls.shutdown(a, SHUT_RDWR)],
  ["own side shut", (calls, _, b) => void calls.shutdown(b, SHUT_RDWR)],
  ["peer closed", (calls, a) => void calls.close(a)],
  [
    "peer closed with unread data",
    (calls, a, b) => {
      calls.write(b, byte);
      calls.close(a);
    },
  ],
  [
    "full, then read by the peer",
    (calls, a, b) => {
      while (calls.write(b, new Uint8Array(3000)) > 0);
      while (calls.recvfrom(a, new Uint8Array(3000), MSG_DONTWAIT, null) > 0);
    },
  ],
  ["urgent data", (calls, a) => void calls.sendto(a, byte, MSG_OOB, null)],
];

const io: LocalScenario[] = TYPES.flatMap(([label, type]) =>
  DEEDS.flatMap(([deed, act]) =>
    [0, QUEUED].map((signal) => ({
      name: `${label}: ${deed}: ${signal === 0 ? "SIGIO" : "a queued signal"}`,
      play(calls, record) {
        const out = new Int32Array(2);
        calls.socketpair(AF_UNIX, type, 0, out);
        const [a, b] = out;
        const held = new HeldSignals([SIGIO, SIGURG, QUEUED]);
        try {
          const thread = new Uint8Array(Int32Array.of(F_OWNER_TID, sys.gettid()).buffer);
          record("owner", calls.fcntl(b, F_SETOWN_EX, thread));
          record("signal", calls.fcntl(b, F_SETSIG, signal));
          record("on", calls.fcntl(b, F_SETFL, O_ASYNC | O_NONBLOCK));
          calls.fcntl(a, F_SETFL, O_NONBLOCK);
          record("before", held.take());
          act(calls, a, b);
          record(
            "signals",
            held.take().map(({ signal: got, code, band, fd }) => [got, code, got === QUEUED ? [band, fd === b] : null]),
          );
          record("off", calls.fcntl(b, F_SETFL, O_NONBLOCK));
          calls.write(a, byte);
          record("none more", held.take());
        } finally {
          held.release();
        }
        for (const fd of [a, b]) calls.close(fd);
      },
    })),
  ),
);

const pipe: LocalScenario[] = TYPES.map(([label, type]) => ({
  name: `${label}: written after the peer has gone`,
  play(calls, record) {
    const held = new HeldSignals([SIGPIPE]);
    try {
      for (const [how, write] of [
        ["write", (fd: number) => calls.write(fd, byte)],
        ["send", (fd: number) => calls.sendto(fd, byte, 0, null)],
        ["send without a signal", (fd: number) => calls.sendto(fd, byte, MSG_NOSIGNAL, null)],
      ] as const) {
        const out = new Int32Array(2);
        calls.socketpair(AF_UNIX, type, 0, out);
        calls.close(out[0]);
        record(how, [write(out[1]), held.take().map(({ signal }) => signal)]);
        record(`${how}, own side shut`, [
          calls.shutdown(out[1], SHUT_WR),
          write(out[1]),
          held.take().map(({ signal }) => signal),
        ]);
        calls.close(out[1]);
      }
    } finally {
      held.release();
    }
  },
}));

const owners: LocalScenario[] = [
  {
    name: "the process as owner: what one signal carries",
    play(calls, record) {
      const out = new Int32Array(2);
      calls.socketpair(AF_UNIX, SOCK_DGRAM | O_NONBLOCK, 0, out);
      const [a, b] = out;
      const held = new HeldSignals([SIGURG]);
      try {
        calls.fcntl(b, F_SETOWN_EX, new Uint8Array(Int32Array.of(F_OWNER_PID, process.pid).buffer));
        calls.fcntl(b, F_SETSIG, 0);
        record("no O_ASYNC", [calls.write(a, byte), held.take()]);
      } finally {
        held.release();
      }
      for (const fd of [a, b]) calls.close(fd);
    },
  },
];

export const SIGNAL_SCENARIOS: readonly LocalScenario[] = [...io, ...pipe, ...owners];
