/** The thread of a load on kernel sockets. */
import { addressWords } from "../../sockets/fib.ts";
import { SOCKADDR_IN6_BYTES, writeSockaddr } from "../../sockets/sockaddr.ts";
import { openNetns } from "../wiring.ts";
import type { ExchangeOptions } from "./exchanges.ts";
import { kernelTcp } from "./kernel-tcp.ts";
import { type DatagramOptions, kernelUdp } from "./kernel-udp.ts";
import { runLoad } from "./load-worker.ts";

export interface KernelLoadStart {
  readonly cpu: number;
  /** Path of the network namespace, or null for that of the caller. */
  readonly netns: string | null;
  /** 4 or 16 bytes. */
  readonly address: Uint8Array;
  readonly port: number;
  readonly datagrams: DatagramOptions | null;
  readonly exchanges: ExchangeOptions | null;
}

const AF_INET = 2;
const AF_INET6 = 10;

runLoad<KernelLoadStart>(
  ({ address, port, datagrams, exchanges }, board) => {
    const family = address.length === 4 ? AF_INET : AF_INET6;
    const sockaddr = new Uint8Array(SOCKADDR_IN6_BYTES);
    const [w0, w1, w2, w3] = addressWords(address);
    const to = sockaddr.subarray(0, writeSockaddr(new DataView(sockaddr.buffer), family, w0, w1, w2, w3, port));
    if (datagrams !== null) return kernelUdp(board, datagrams, family, to);
    return kernelTcp(board, exchanges as ExchangeOptions, family, to);
  },
  ({ netns }, body) => {
    const namespace = openNetns(netns);
    try {
      namespace.run(body);
    } finally {
      namespace.close();
    }
  },
);
