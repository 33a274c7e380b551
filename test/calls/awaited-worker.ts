/** A thread that receives by system calls, and blocks: what is awaited in the event loop is compared with that. */
import { KernelCalls } from "../../sockets/calls/kernel-calls.ts";
import { messageOf } from "../../sockets/calls/message.ts";
import { type Receive, type Received, received } from "./awaited.ts";

declare const self: Worker;

const calls = new KernelCalls();

self.onmessage = ({ data: { fd, receives } }: MessageEvent<{ fd: number; receives: readonly Receive[] }>) => {
  const results: Received[] = receives.map(({ room, flags }) => {
    const message = { ...messageOf(new Uint8Array(room)), control: new Uint8Array(256) };
    return received(calls.recvmsg(fd, message, flags), message, (descriptor) => calls.close(descriptor));
  });
  self.postMessage(results);
};
