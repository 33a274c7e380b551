/** node-dgram.mjs on an engine, by a change of its import: `bun bench/peers/dropin-dgram.ts PORT`. */
import { createSocket } from "lcore/dgram";

const socket = createSocket("udp4");
socket.on("message", (message, from) => socket.send(message, from.port, from.address));
socket.bind(Number(process.argv[2]), "0.0.0.0");
