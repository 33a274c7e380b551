/** A UDP echo on node:dgram: `node bench/peers/node-dgram.mjs PORT`. JavaScript, so that any Node runs it. */
import { createSocket } from "node:dgram";

const socket = createSocket("udp4");
socket.on("message", (message, from) => socket.send(message, from.port, from.address));
socket.bind(Number(process.argv[2]), "0.0.0.0");
