/**
 * What the engine's own ICMP says of datagrams that were sent: to the sockets that sent them. An error counts only where a
 * socket is that has the quoted packet's addresses and ports; others may be forged, and change nothing.
 */
import { ERRNO } from "af-xdp-bindings";
import type { FramePool } from "../queues/pool.ts";
import { EXCERPT_MAX } from "../sockets/error-message.ts";
import { ErrorReport, SO_EE_ORIGIN_ICMP, SO_EE_ORIGIN_ICMP6 } from "../sockets/error-queue.ts";
import { ErrorReporter } from "../sockets/error-reporter.ts";
import type { IcmpReport } from "../sockets/host/host.ts";
import { NOBODY } from "../sockets/lookup.ts";
import type { Stack } from "../sockets/stack.ts";
import { tellLcores } from "../sockets/stream/tcp-report.ts";
import { IPPROTO_TCP, IPPROTO_UDP } from "../sockets/table.ts";
import { IPV6_DST, IPV6_HEADER, IPV6_SRC } from "../sockets/wire/ipv6.ts";
import { writeInt32 } from "../sockets/wire/views.ts";

export class HostErrors {
  private readonly stack: Stack;
  private readonly pool: FramePool;
  private readonly ifindex: number;
  private readonly reporter: ErrorReporter;
  private readonly report = new ErrorReport();
  /** Header of the packet that would come from where the quoted one went. */
  private readonly header = new Uint8Array(IPV6_HEADER);

  constructor(stack: Stack, ifindex: number) {
    this.stack = stack;
    this.pool = stack.pool;
    this.ifindex = ifindex;
    this.reporter = new ErrorReporter(stack);
  }

  /** Tells the socket that has sent the packet. False: there is none. */
  tell(icmp: IcmpReport): boolean {
    if (icmp.protocol === IPPROTO_TCP) {
      tellLcores(this.stack, icmp);
      // The lcores judge by what they have in flight; that the path is narrow may be believed of what may be a connection's.
      return this.stack.shared.portUse.some((use) => use[icmp.localPort] > 0);
    }
    const socket = icmp.protocol === IPPROTO_UDP ? this.senderOf(icmp) : NOBODY;
    if (socket < 0) return false;
    const { report } = this;
    report.errno = icmp.errno;
    report.origin = icmp.version === 4 ? SO_EE_ORIGIN_ICMP : SO_EE_ORIGIN_ICMP6;
    report.type = icmp.type;
    report.code = icmp.code;
    report.info = icmp.info;
    report.hard = icmp.hard || icmp.errno === ERRNO.EMSGSIZE;
    report.remote.set(icmp.remote);
    report.remotePort = icmp.remotePort;
    report.offender.set(icmp.offender);
    const length = Math.min(icmp.payload.length, EXCERPT_MAX);
    const frame = length === 0 ? -1 : this.pool.take();
    if (frame >= 0) {
      const { memories } = this.stack.shared;
      memories[this.stack.thread].bytes.set(icmp.payload.subarray(0, length), frame);
    }
    this.reporter.report(socket, report, frame, length);
    return true;
  }

  /** As __udp4_lib_err(): the socket that would get an answer. */
  private senderOf(icmp: IcmpReport): number {
    const { stack, ifindex } = this;
    const { local, localPort, remote, remotePort } = icmp;
    stack.control();
    if (icmp.version === 4) return stack.lookup.udp4(local[3], localPort, remote[3], remotePort, 0, ifindex);
    for (let i = 0; i < 4; i++) {
      writeInt32(this.header, IPV6_SRC + 4 * i, remote[i]);
      writeInt32(this.header, IPV6_DST + 4 * i, local[i]);
    }
    return stack.lookup.udp6(this.header, 0, localPort, remotePort, 0, ifindex);
  }
}
