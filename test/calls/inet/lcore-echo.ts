/** A module that answers by descriptor, in the turns of its lcore. */
import type { Lcore } from "../../../engine/lcore.ts";
import { AF_INET, F_GETFL, O_NONBLOCK, SOCK_DGRAM } from "../../../sockets/calls/constants.ts";
import { addressBuffer, addressIn } from "../../../sockets/calls/message.ts";
import { encodeAddress } from "../../../sockets/calls/sockaddr.ts";

export default function (lcore: Lcore): void {
  const calls = lcore.calls();
  const fd = calls.socket(AF_INET, SOCK_DGRAM, 0);
  const bound = calls.bind(fd, encodeAddress({ family: AF_INET, address: "0.0.0.0", port: 7 }));
  if (bound < 0 || (calls.fcntl(fd, F_GETFL, 0) & O_NONBLOCK) === 0) throw new Error(`bind: ${bound}`);
  const bytes = new Uint8Array(2048);
  lcore.onTurn(() => {
    const from = addressBuffer();
    const length = calls.recvfrom(fd, bytes, 0, from);
    if (length < 0) return 0;
    calls.sendto(fd, bytes.subarray(0, length), 0, addressIn(from));
    return 1;
  });
}
