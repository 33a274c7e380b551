/** A program whose own static import of node:dgram was linked before. Run by register.test.ts. */
import { createSocket } from "node:dgram";
import "lcore/register";

console.log(typeof createSocket);
