/** Names: what may be bound, what is found, what addresses are told. */
import { AF_INET, AF_UNIX, SOCK_DGRAM, SOCK_SEQPACKET, SOCK_STREAM } from "../../../sockets/calls/constants.ts";
import { addressBuffer } from "../../../sockets/calls/message.ts";
import { SO_PASSCRED, SO_PASSPIDFD, SO_PASSSEC } from "../../../sockets/options.ts";
import {
  abstractName,
  bytes,
  closeAll,
  nameOfPeer,
  nameOfSocket,
  pairOf,
  pathName,
  pollOf,
  roomFor,
  send,
  setOption,
  shownAddress,
  shownTake,
  socketOf,
  TYPES,
  type UnixScenario,
  unixAddress,
} from "./tools.ts";

const lengths: UnixScenario[] = TYPES.flatMap(([label, type]) =>
  [0, 1, 2, 3, 4, 50, 109, 110, 111, 127, 128, 129, 200].map((length) => ({
    name: `${label}: an abstract name of ${length} bytes in all`,
    play(calls, record) {
      const address = new Uint8Array(length).fill(0x78);
      address.set(bytes(AF_UNIX, 0, 0).subarray(0, length));
      // Of this process alone, where there is room.
      address.set(
        new TextEncoder().encode(`${process.pid} ${type}`).subarray(0, Math.max(length - 3, 0)),
        Math.min(3, length),
      );
      const fd = socketOf(calls, type);
      record("bind", calls.bind(fd, address));
      record("name", nameOfSocket(calls, fd));
      const other = socketOf(calls, type);
      record("bind again", calls.bind(other, address));
      record("connect", calls.connect(other, address));
      record("send to", send(calls, other, bytes(1), { to: address }));
      record("poll", pollOf(calls, fd));
      record("a byte less", calls.connect(other, address.subarray(0, Math.max(length - 1, 0))));
      closeAll(calls, fd, other);
    },
  })),
);

const paths: UnixScenario[] = TYPES.flatMap(([label, type]) => [
  {
    name: `${label}: a path is told with its null byte, and stays when its socket is closed`,
    play(calls, record, place) {
      const path = pathName(place, `s${type}`);
      const fd = socketOf(calls, type);
      record("bind", calls.bind(fd, path));
      record("name", nameOfSocket(calls, fd));
      const other = socketOf(calls, type);
      record("bound by another", calls.bind(other, path));
      calls.listen(fd, 2);
      record("connect", calls.connect(other, path));
      record("peer", nameOfPeer(calls, other));
      record("bound when it has a name", calls.bind(fd, pathName(place, "t")));
      record("its own name again", calls.bind(fd, path));
      closeAll(calls, fd, other);
      const late = socketOf(calls, type);
      record("connect to what is gone", calls.connect(late, path));
      record("send to what is gone", send(calls, late, bytes(1), { to: path }));
      record("bind what is gone", calls.bind(late, path));
      record("unlink", place.unlink(`${place.directory}/s${type}`));
      record("connect to what is unlinked", calls.connect(late, path));
      record("send to what is unlinked", send(calls, late, bytes(1), { to: path }));
      record("bind what is unlinked", calls.bind(late, path));
      record("unlink again", [place.unlink(`${place.directory}/s${type}`), place.unlink(`${place.directory}/none`)]);
      closeAll(calls, late);
    },
  },
  {
    name: `${label}: a path of a socket of another type`,
    play(calls, record, place) {
      const path = pathName(place, "typed");
      const fd = socketOf(calls, type);
      calls.bind(fd, path);
      calls.listen(fd, 1);
      for (const [told, another] of TYPES) {
        const other = socketOf(calls, another);
        record(told, [calls.connect(other, path), send(calls, other, bytes(1), { to: path })]);
        closeAll(calls, other);
      }
      closeAll(calls, fd);
      place.unlink(`${place.directory}/typed`);
    },
  },
  {
    name: `${label}: abstract names are each type's own`,
    play(calls, record) {
      const name = abstractName("each type");
      const fd = socketOf(calls, type);
      calls.bind(fd, name);
      calls.listen(fd, 1);
      for (const [told, another] of TYPES) {
        const other = socketOf(calls, another);
        record(told, [
          calls.connect(other, name),
          send(calls, other, bytes(1), { to: name }),
          calls.bind(other, name),
          nameOfSocket(calls, other),
        ]);
        closeAll(calls, other);
      }
      closeAll(calls, fd);
    },
  },
  {
    name: `${label}: a path with bytes behind its null byte, and one without any`,
    play(calls, record, place) {
      const path = pathName(place, "cut");
      const longer = new Uint8Array(path.length + 6).fill(0x61);
      longer.set(path);
      longer[path.length] = 0;
      const fd = socketOf(calls, type);
      record("bind", calls.bind(fd, longer));
      record("name", nameOfSocket(calls, fd));
      const other = socketOf(calls, type);
      calls.listen(fd, 1);
      record("connect without", calls.connect(other, path));
      record("bind without", calls.bind(other, path));
      closeAll(calls, fd, other);
      place.unlink(`${place.directory}/cut`);
    },
  },
  {
    name: `${label}: the longest path`,
    play(calls, record, place) {
      for (const length of [107, 108]) {
        const name = "x".repeat(length - place.directory.length - 1);
        const path = pathName(place, name);
        const fd = socketOf(calls, type);
        record(`bind ${length}`, [path.length, calls.bind(fd, path), nameOfSocket(calls, fd, 200)]);
        const other = socketOf(calls, type);
        calls.listen(fd, 1);
        record("connect", [calls.connect(other, path), nameOfPeer(calls, other, 200)]);
        const accepted = calls.accept4(fd, addressBuffer(), 0);
        record("accepted", accepted < 0 ? accepted : nameOfSocket(calls, accepted, 111));
        closeAll(calls, fd, other, accepted);
        record("unlink", place.unlink(`${place.directory}/${name}`));
      }
    },
  },
  {
    name: `${label}: other spellings of a path`,
    play(calls, record, place) {
      const fd = socketOf(calls, type);
      record("bind", calls.bind(fd, pathName(place, "./a")));
      record("name", nameOfSocket(calls, fd));
      calls.listen(fd, 5);
      for (const spelling of ["a", "/a", "././/a"]) {
        const other = socketOf(calls, type);
        record(spelling, [
          calls.connect(other, pathName(place, spelling)),
          calls.bind(other, pathName(place, spelling)),
        ]);
        closeAll(calls, other);
      }
      closeAll(calls, fd);
      record("unlink", place.unlink(`${place.directory}//a`));
    },
  },
  {
    name: `${label}: autobind, and again, and a name in use`,
    play(calls, record) {
      const fd = socketOf(calls, type);
      record("autobind", [calls.bind(fd, bytes(AF_UNIX, 0)), nameOfSocket(calls, fd)]);
      const name = addressBuffer();
      calls.getsockname(fd, name);
      const before = name.bytes.slice(0, name.length);
      record("again", calls.bind(fd, bytes(AF_UNIX, 0)));
      const after = addressBuffer();
      calls.getsockname(fd, after);
      record("the same name", before.toHex() === after.bytes.slice(0, after.length).toHex());
      record("another name", calls.bind(fd, abstractName("auto")));
      const other = socketOf(calls, type);
      record("bound by another", calls.bind(other, before));
      record("connect", calls.connect(other, before));
      closeAll(calls, fd);
      record("bound when it is gone", calls.bind(other, before));
      closeAll(calls, other);
    },
  },
  {
    name: `${label}: other families' addresses`,
    play(calls, record) {
      const fd = socketOf(calls, type);
      for (const address of [
        bytes(AF_INET, 0),
        bytes(AF_INET, 0, 0, 65),
        bytes(0, 0),
        bytes(0, 0, 0, 65),
        bytes(1, 1, 0, 65),
      ]) {
        record(address.toHex(), [
          calls.bind(fd, address),
          calls.connect(fd, address),
          send(calls, fd, bytes(1), { to: address }),
          nameOfSocket(calls, fd),
        ]);
      }
      closeAll(calls, fd);
    },
  },
  ...(
    [
      ["SO_PASSCRED", SO_PASSCRED],
      ["SO_PASSPIDFD", SO_PASSPIDFD],
      ["SO_PASSSEC", SO_PASSSEC],
    ] as const
  ).map(
    ([option, number]): UnixScenario => ({
      name: `${label}: who has set ${option} gets a name when it connects or sends`,
      play(calls, record) {
        const listener = socketOf(calls, type);
        calls.bind(listener, abstractName("asker"));
        calls.listen(listener, 3);
        const fd = socketOf(calls, type);
        record("set", setOption(calls, fd, number, 1));
        record("connect to nobody", [calls.connect(fd, abstractName("nobody there")), nameOfSocket(calls, fd)]);
        const second = socketOf(calls, type);
        setOption(calls, second, number, 1);
        record("send to nobody", [
          send(calls, second, bytes(1), { to: abstractName("nobody there") }),
          nameOfSocket(calls, second),
        ]);
        const third = socketOf(calls, type);
        setOption(calls, third, number, 1);
        record("connect to a wrong address", [calls.connect(third, bytes(1, 0)), nameOfSocket(calls, third)]);
        record("send nowhere", [send(calls, third, bytes(1)), nameOfSocket(calls, third)]);
        const [a, b] = pairOf(calls, type);
        setOption(calls, a, number, 1);
        record("send over a pair", [send(calls, a, bytes(1)), nameOfSocket(calls, a), shownTake(calls, b)]);
        record("connect", [calls.connect(second, abstractName("asker")), nameOfSocket(calls, second)]);
        closeAll(calls, listener, fd, second, third, a, b);
      },
    }),
  ),
]);

const told: UnixScenario[] = [
  {
    name: "accept: the name of a client that has one, that has none, and that is gone",
    play(calls, record) {
      for (const [label, type] of [
        ["stream", SOCK_STREAM],
        ["seqpacket", SOCK_SEQPACKET],
      ] as const) {
        const listener = socketOf(calls, type);
        calls.bind(listener, abstractName("hall"));
        calls.listen(listener, 5);
        const clients = [0, 1, 2, 3].map(() => socketOf(calls, type));
        calls.bind(clients[0], abstractName("client"));
        calls.bind(clients[2], abstractName("client that goes"));
        for (const client of clients) record(`${label}: connect`, calls.connect(client, abstractName("hall")));
        closeAll(calls, clients[2], clients[3]);
        for (const room of [128, 128, 10, 0]) {
          const address = roomFor(room);
          const accepted = calls.accept4(listener, address, 0);
          record("accepted", [
            accepted >= 0,
            shownAddress(address),
            nameOfPeer(calls, accepted),
            nameOfSocket(calls, accepted),
          ]);
          record("poll", pollOf(calls, accepted));
          closeAll(calls, accepted);
        }
        closeAll(calls, listener, clients[0], clients[1]);
      }
    },
  },
  {
    name: "a client that is bound after it has connected",
    play(calls, record) {
      const listener = socketOf(calls, SOCK_STREAM);
      calls.bind(listener, abstractName("late"));
      calls.listen(listener, 5);
      const client = socketOf(calls, SOCK_STREAM);
      calls.connect(client, abstractName("late"));
      record("bind", calls.bind(client, abstractName("late client")));
      const address = addressBuffer();
      const accepted = calls.accept4(listener, address, 0);
      record("accepted", shownAddress(address));
      record("peer", nameOfPeer(calls, accepted));
      record("bind of the accepted", calls.bind(accepted, abstractName("late accepted")));
      closeAll(calls, listener);
      record("the listener's name is free", calls.bind(accepted, abstractName("late")));
      const other = socketOf(calls, SOCK_STREAM);
      record("for another", calls.bind(other, abstractName("late")));
      closeAll(calls, client, accepted, other);
    },
  },
  {
    name: "datagrams: the sender's name as it is when they are received",
    play(calls, record) {
      const receiver = socketOf(calls, SOCK_DGRAM);
      calls.bind(receiver, abstractName("receiver"));
      const sender = socketOf(calls, SOCK_DGRAM);
      send(calls, sender, bytes(1), { to: abstractName("receiver") });
      send(calls, sender, bytes(2), { to: abstractName("receiver") });
      record("before", shownTake(calls, receiver));
      calls.bind(sender, abstractName("sender"));
      record("after", shownTake(calls, receiver));
      send(calls, sender, bytes(3), { to: abstractName("receiver") });
      send(calls, sender, bytes(4), { to: abstractName("receiver") });
      record("in little room", shownTake(calls, receiver, { name: 4 }));
      closeAll(calls, sender);
      record("closed", shownTake(calls, receiver));
      closeAll(calls, receiver);
    },
  },
  {
    name: "names in room of every size",
    play(calls, record) {
      const fd = socketOf(calls, SOCK_DGRAM);
      for (const name of [null, abstractName("of some length")]) {
        if (name !== null) calls.bind(fd, name);
        for (const room of [0, 1, 2, 3, 10, name?.length ?? 2, 128]) record(`${room}`, nameOfSocket(calls, fd, room));
        const short = addressBuffer(64);
        short.length = 5;
        record("less than there is", [calls.getsockname(fd, short), short.length, short.bytes.toHex()]);
        short.length = -1;
        record("negative", calls.getsockname(fd, short));
      }
      closeAll(calls, fd);
    },
  },
  {
    name: "a path in a directory, relative and absolute, is one",
    play(calls, record, place) {
      const fd = socketOf(calls, SOCK_STREAM);
      calls.bind(fd, pathName(place, "one"));
      calls.listen(fd, 1);
      const depth = process.cwd().split("/").length - 1;
      const relative = `${"../".repeat(depth)}${place.directory.slice(1)}/one`;
      const other = socketOf(calls, SOCK_STREAM);
      record("connect", calls.connect(other, unixAddress(relative)));
      closeAll(calls, fd, other);
      record("unlink", place.unlink(`${place.directory}/one`));
    },
  },
];

export const NAME_SCENARIOS: readonly UnixScenario[] = [...lengths, ...paths, ...told];
