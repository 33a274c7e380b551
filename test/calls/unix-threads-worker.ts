/** Another thread of an engine: answers at names of AF_UNIX, blocking. See unix-threads.test.ts. */
import { workerData } from "node:worker_threads";
import { Engine, type EngineDescriptor } from "../../engine/engine.ts";
import { AF_UNIX, MSG_DONTWAIT, SCM_RIGHTS, SOCK_DGRAM, SOCK_STREAM } from "../../sockets/calls/constants.ts";
import { controlInt, decodeControl, encodeControl } from "../../sockets/calls/control.ts";
import { addressBuffer, addressIn, messageOf } from "../../sockets/calls/message.ts";
import { SO_PEERCRED, SOL_SOCKET } from "../../sockets/options.ts";
import { unixAddress } from "./unix/tools.ts";

declare const self: Worker;

const { descriptor, type, name, end } = workerData as {
  descriptor: EngineDescriptor;
  type: number;
  name: string;
  /** A descriptor of the kernel's that is handed over. */
  end: number;
};
const engine = Engine.attach(descriptor);
const calls = engine.calls({ unix: "kernel" });
const told: unknown[] = [];

const listener = calls.socket(AF_UNIX, type, 0);
told.push(calls.bind(listener, unixAddress(name)));
if (type !== SOCK_DGRAM) told.push(calls.listen(listener, 1));
const handed = calls.adoptKernel(end);
self.postMessage("bound");

const fd = type === SOCK_DGRAM ? listener : calls.accept4(listener, null, 0);
const message = { ...messageOf(new Uint8Array(16)), name: addressBuffer(), control: new Uint8Array(64) };
const length = calls.recvmsg(fd, message, 0);
told.push(message.iov[0].subarray(0, length).toHex(), message.flags);
const [rights] = decodeControl(message.control, message.controlLength) ?? [];
const passed = new DataView(rights.data.buffer, rights.data.byteOffset).getInt32(0, true);
told.push(calls.write(passed, Uint8Array.of(7)));
if (type === SOCK_STREAM) {
  const credentials = new Int32Array(3);
  told.push(
    calls.getsockopt(fd, SOL_SOCKET, SO_PEERCRED, new Uint8Array(credentials.buffer)),
    credentials[0] === process.pid,
  );
}
// Back goes the end that was handed over.
const control = encodeControl({ level: SOL_SOCKET, type: SCM_RIGHTS, data: controlInt(handed) });
const to = type === SOCK_DGRAM ? { bytes: addressIn(message.name), length: message.name.length } : null;
told.push(calls.sendmsg(fd, { ...messageOf(Uint8Array.of(9)), name: to, control, controlLength: control.length }, 0));
told.push(calls.write(handed, Uint8Array.of(8)), calls.recvfrom(fd, new Uint8Array(1), MSG_DONTWAIT, null) < 0);
engine.detach();
self.postMessage(told);
