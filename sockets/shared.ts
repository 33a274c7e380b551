/** What one thread of an engine sees of that which all of them share. */
import type { Binder } from "./binder.ts";
import type { CounterBoard } from "./counters.ts";
import type { Mesh } from "./mesh.ts";
import type { Sysctl } from "./sysctl.ts";
import type { SocketTable } from "./table.ts";
import type { TcpConfig } from "./tcp/config.ts";
import type { FrameViews } from "./wire/views.ts";

/** What the threads of one engine share. */
export interface Shared {
  readonly table: SocketTable;
  readonly mesh: Mesh;
  /** Frame memory of each lcore. */
  readonly memories: readonly FrameViews[];
  /** Bytes a frame of each lcore, powers of two. */
  readonly frameSizes: readonly number[];
  readonly binder: Binder;
  readonly board: CounterBoard;
  /** CPU and NAPI ID of each port: pairs at (lcore * PORTS_MAX + port) * 2. Written by the lcore. */
  readonly portInfo: Int32Array;
  /** Values of net.core. */
  readonly sysctl: Sysctl;
  /** Records of each lcore's TCP connections (sockets/tcp/tcb.ts). Written by the lcore; others read single words. */
  readonly tcbs: readonly Int32Array[];
  readonly tcp: TcpConfig;
  /** lcore that holds a local TCP port for its outgoing connections, plus 1, by port; 0: none does. Written under the table's mutex. */
  readonly portOwners: Uint8Array;
  /** Connections by local port, 65,536 words a lcore, written by the lcore. */
  readonly portUse: readonly Int32Array[];
  /** Routes, as the control thread publishes them. */
  readonly fib: SharedArrayBuffer;
  /** Index of the interface that the engine serves. */
  readonly ifindex: number;
  /** Thread that reads what comes up the kernel's stack, -1 without a kernel. */
  readonly controlThread: number;
  /** Thread of the engine's own host protocols, -1 where the kernel has them. */
  readonly hostThread: number;
}

/** Ports (queues) one lcore may have. */
export const PORTS_MAX = 64;
