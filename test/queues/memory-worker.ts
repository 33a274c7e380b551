/** The far end of memory.test.ts: sends back every frame until it is told to stop. */
import { Burst } from "../../queues/driver.ts";
import { MemoryPort, type MemoryWire } from "../../queues/memory.ts";
import { FramePool } from "../../queues/pool.ts";

declare const self: Worker;

/** Turns between looks at the message queue. */
const TURNS = 10_000;

self.onmessage = (event: MessageEvent<MemoryWire | "stop">) => {
  if (event.data === "stop") process.exit();
  const pool = new FramePool(256, 2048);
  const port = MemoryPort.attach(event.data, 1, pool, new Uint8Array(new SharedArrayBuffer(256 * 2048)));
  const burst = new Burst();
  const run = () => {
    for (let turn = 0; turn < TURNS; turn++) {
      port.txComplete();
      const count = port.rxBurst(burst, 0);
      for (let i = 0; i < count; i++) port.txPush(burst.offset[i], burst.length[i]);
      port.txFlush();
    }
    setImmediate(run);
  };
  run();
  postMessage("ready");
};
