/** Connects, and writes in every turn, so that a write and not the handler is the first to hear of an end. */
import { ERRNO } from "af-xdp-bindings";
import type { Lcore } from "../../../engine/lcore.ts";

export interface LateWriteData {
  readonly address: string;
  readonly port: number;
  /** -errno of the write that failed, errno of handlers.closed; both 0 before. */
  readonly results: SharedArrayBuffer;
}

export default function (lcore: Lcore): void {
  const { address, port, results } = lcore.data as LateWriteData;
  const told = new Int32Array(results);
  let isOpen = false;
  const socket = lcore.connect(
    { address, port },
    {
      open: () => {
        isOpen = true;
      },
      closed: (_, errno) => {
        told[1] = errno;
        socket.close();
      },
    },
  );
  lcore.onTurn(() => {
    if (!isOpen || socket.closed || told[0] !== 0) return 0;
    const result = socket.write(Uint8Array.of(1));
    if (result < 0 && result !== -ERRNO.EAGAIN) told[0] = result;
    return 1;
  });
}
