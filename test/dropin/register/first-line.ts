/** A program that registers the drop-in itself, before a package that requires dgram. Run by register.test.ts. */
import "lcore/register";
import dnsSocket from "dns-socket";
import { Socket } from "lcore/dgram";

const server = dnsSocket();
const later = await import("node:dgram");
console.log(JSON.stringify({ package: server.socket instanceof Socket, later: later.Socket === (Socket as unknown) }));
