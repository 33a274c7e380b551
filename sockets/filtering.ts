/** BPF programs on an lcore's way in: how a datagram came, for those that ask, and socket filters. */
import type { Port } from "../queues/driver.ts";
import type { Arrival, Describer, Programs } from "./bpf/programs.ts";
import type { Fib } from "./fib.ts";
import { PORTS_MAX, type Shared } from "./shared.ts";
import { IPV4_DST } from "./wire/ipv4.ts";
import { IPV6_DST } from "./wire/ipv6.ts";
import { UDP_HEADER, UDP_LENGTH, udpLength } from "./wire/udp.ts";
import { readInt32, writeUint16 } from "./wire/views.ts";

const LO = 1;
const ARPHRD_ETHER = 1;
const ARPHRD_LOOPBACK = 772;

export class Filtering implements Describer {
  private trimmed = 0;
  private readonly programs: Programs;
  private readonly bytes: Uint8Array;
  private readonly arrival: Arrival;
  private readonly ports: readonly Port[];
  private readonly portInfo: Int32Array;
  private readonly ifindex: number;
  /** Index in `portInfo` of port 0. */
  private readonly info: number;
  /** Whether this thread's frames are of the kernel's making: where the MAC addresses would be stands the interface. */
  private readonly isKernel: boolean;

  constructor(shared: Shared, thread: number, ports: readonly Port[], programs: Programs) {
    this.programs = programs;
    programs.describer = this;
    this.arrival = programs.arrival;
    this.bytes = shared.memories[thread].bytes;
    this.ports = ports;
    this.portInfo = shared.portInfo;
    this.ifindex = shared.ifindex;
    this.info = thread * PORTS_MAX * 2;
    this.isKernel = thread === shared.controlThread;
  }

  /**
   * Runs a socket's filter. False: the datagram is to be dropped. What the filter keeps less of is shortened by the length in
   * its UDP header, as far as that header itself (sk_filter_trim_cap).
   */
  passes(slot: number, portNumber: number, frame: number, ip: number, udp: number): boolean {
    const { bytes } = this;
    this.note(portNumber, frame, ip, udp);
    const kept = this.programs.filter(slot, bytes);
    const length = udpLength(bytes, udp);
    this.trimmed = 0;
    if (kept < length && kept !== 0) {
      this.trimmed = length - Math.max(kept, UDP_HEADER);
      writeUint16(bytes, udp + UDP_LENGTH, length - this.trimmed);
    }
    return kept !== 0;
  }

  /** Bytes that a filter has taken off the datagram at hand, told once: it is charged whole. */
  takeTrimmed(): number {
    const { trimmed } = this;
    if (trimmed !== 0) this.trimmed = 0;
    return trimmed;
  }

  /** Notes the datagram at hand: its port, offsets of its frame, IP and UDP header. */
  note(port: number, frame: number, ip: number, udp: number): void {
    const { arrival } = this;
    arrival.port = port;
    arrival.frame = frame;
    arrival.ip = ip;
    arrival.udp = udp;
  }

  describe(arrival: Arrival): void {
    const { bytes, ports, portInfo } = this;
    const { port } = arrival;
    const info = this.info + port * 2;
    arrival.ifindex = this.isKernel ? readInt32(bytes, arrival.frame) : this.ifindex;
    arrival.hardwareType = this.isKernel && arrival.ifindex === LO ? ARPHRD_LOOPBACK : ARPHRD_ETHER;
    // skb_record_rx_queue() counts from 1; 0 is none.
    arrival.queue = port < ports.length ? ports[port].queue + 1 : 0;
    arrival.cpu = portInfo[info];
    arrival.napiId = portInfo[info + 1];
  }
}

/** Whether the packet at `ip` is for a group, or a broadcast address of this host. */
export function isForMany(bytes: Uint8Array, ip: number, fib: Fib): boolean {
  if (bytes[ip] >> 4 !== 4) return bytes[ip + IPV6_DST] === 0xff;
  const destination = readInt32(bytes, ip + IPV4_DST);
  return destination >>> 28 === 14 || fib.isBroadcast(destination);
}
