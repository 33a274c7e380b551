/** Sets options that take a privilege on a kernel socket and on an engine's without a kernel; prints what each said. */

import { NetNs } from "../../../engine/host/netns.ts";
import { SO_MARK, SO_PRIORITY, SO_RCVBUFFORCE, SO_SNDBUFFORCE, SOL_SOCKET } from "../../../sockets/options.ts";
import { UdpSocket } from "../../../sockets/udp-socket.ts";
import { Rig } from "../../sockets/rig.ts";
import { EngineParty, int, KernelParty } from "../parties.ts";

const parties = [
  new KernelParty(NetNs.current(), 4),
  new EngineParty(UdpSocket.open(new Rig().threads[0], { address: "0.0.0.0" })),
];
const said = parties.map((party) =>
  [SO_PRIORITY, SO_MARK, SO_SNDBUFFORCE, SO_RCVBUFFORCE].flatMap((name) =>
    [-1, 0, 6, 7, 100_000].map((value) => {
      const verdict = party.set(SOL_SOCKET, name, int(value));
      return `${name} ${value}: ${verdict} ${party.get(SOL_SOCKET, name, 4)}`;
    }),
  ),
);
console.log(JSON.stringify(said));
