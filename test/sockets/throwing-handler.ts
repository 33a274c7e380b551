/** Run by thread.test.ts: a handler on an application thread throws once. Prints what came of it as JSON. */
import { UdpSocket } from "../../sockets/udp-socket.ts";
import { udpFrame } from "../support/frames.ts";
import { Rig } from "./rig.ts";

const ROUNDS_MAX = 10_000;

const errors: string[] = [];
process.on("uncaughtException", (error) => void errors.push(error.message));
const rig = new Rig();
const socket = UdpSocket.open(rig.threads[0], { port: 9000 });
const got: string[] = [];
socket.onDatagram = (d) => {
  got.push(d.text());
  if (got.length === 2) throw new Error("the application's");
};
rig.turn(Array.from({ length: 4 }, (_, i) => udpFrame({ payload: `n${i}` })));
for (let i = 0; i < ROUNDS_MAX && (got.length < 4 || errors.length === 0); i++) {
  await new Promise((resolve) => setImmediate(resolve));
}
rig.settle();
console.log(JSON.stringify({ got, errors, missing: rig.missing() }));
process.exit(0);
