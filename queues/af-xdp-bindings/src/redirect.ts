import { Assembler, r1, r2, r3, XDP_MD, XDP_PASS, type XskMap } from "./bpf/index.ts";

/**
 * The smallest useful XDP program: each frame to the socket of its queue, and on to the kernel's stack where the queue
 * has none. Queue numbers index `sockets`.
 */
export function redirectQueues(sockets: XskMap): Assembler {
  return new Assembler()
    .load32(r2, r1, XDP_MD.rx_queue_index)
    .mapFd(r1, sockets)
    .mov(r3, XDP_PASS)
    .call("redirect_map")
    .exit();
}
