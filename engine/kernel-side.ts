/** An engine's part in the kernel: see KernelSide. */
import { readFileSync } from "node:fs";
import { check, sys } from "af-xdp-bindings";
import type { TcpConfig } from "../sockets/tcp/config.ts";
import type { EngineConfig } from "./config.ts";
import { queueNapiIds } from "./host/napi.ts";
import type { NetNs } from "./host/netns.ts";
import { hostTcp } from "./host/tcp-sysctls.ts";
import { attachSteering, chooseMode, findInterface, mayBePartial } from "./interface.ts";
import { endLink, putLink } from "./link-word.ts";
import { Steering } from "./steering/program.ts";
import { type KernelWiring, type LinkDescriptor, openNetns, publishNapiIds, type Wiring } from "./wiring.ts";

const EPOLL_CLOEXEC = 0x80000;

/** What the engine holds of the kernel: the program, its link, the namespace, the epoll instance. */
export class KernelSide {
  readonly link: LinkDescriptor;
  readonly steering: Steering;
  attached: "native" | "skb" = "skb";
  private readonly frags: boolean;
  reason = "";
  private readonly netns: NetNs;
  private readonly netnsPath: string;
  private readonly epoll: number;
  private readonly queueCount: number;
  private state: Int32Array | null = null;
  private closed = false;
  private lastCounters: Record<string, number> = {};

  static open(config: EngineConfig): KernelSide {
    const netns = openNetns(config.netns);
    try {
      return new KernelSide(config, netns);
    } catch (error) {
      netns.close();
      throw error;
    }
  }

  private constructor(config: EngineConfig, netns: NetNs) {
    this.netns = netns;
    // Not that of whichever thread attaches later: it may be in another namespace.
    this.netnsPath = netns.path;
    const name = config.interface as string;
    const found = netns.run(() => findInterface(name));
    this.queueCount = found.queues;
    this.link = {
      name,
      ifindex: found.link.ifindex,
      mac: found.link.mac,
      mtu: found.link.mtu,
      partialChecksums: mayBePartial(found),
    };
    const dedicated = config.addresses.length > 0;
    const choice = chooseMode(config.mode, found);
    this.attached = choice.attach;
    this.reason = choice.reason;
    // In native mode drivers see to it that no packet is longer than the MTU.
    this.frags = this.attached === "skb" && hasMultiBuffer();
    this.steering = Steering.load({ mac: found.link.mac, queues: this.queueCount, dedicated, frags: this.frags });
    this.epoll = check(sys.sys3(sys.SYS.epoll_create1, EPOLL_CLOEXEC, 0, 0), "epoll_create1");
  }

  /** What the host's TCP begins with. */
  tcp(config: EngineConfig): Partial<TcpConfig> {
    return this.netns.run(() => hostTcp(config.tcp));
  }

  queues(config: EngineConfig): number[] {
    const all = Array.from({ length: this.queueCount }, (_, queue) => queue);
    for (const queue of config.queues ?? []) {
      if (!all.includes(queue)) {
        throw new RangeError(`queue ${queue}: ${this.link.name} has queues 0 to ${this.queueCount - 1}`);
      }
    }
    return [...(config.queues ?? all)];
  }

  wiring(config: EngineConfig): KernelWiring {
    return {
      kind: "kernel",
      link: this.link,
      netnsPath: this.netnsPath,
      steering: this.steering.descriptors(),
      epoll: this.epoll,
      attach: this.attached,
      frags: this.frags,
      copy:
        config.mode === "zerocopy"
          ? "zerocopy"
          : config.mode === "auto" && this.attached === "native"
            ? "auto"
            : "copy",
    };
  }

  /** @param state of the wiring: the control thread looks after the link that is named there */
  attach(config: EngineConfig, state: Int32Array): void {
    const result = this.netns.run(() => attachSteering(this.steering, this.link, this.attached, config.mode));
    this.state = state;
    putLink(state, 0, result.link);
    if (result.fallback !== "") {
      this.attached = "skb";
      this.reason = result.fallback;
    }
  }

  /** Notes each queue's NAPI ID for SO_INCOMING_NAPI_ID: on veth there is one only now that the program is attached. */
  publishNapiIds(wiring: Wiring): void {
    const ids = this.netns.run(() => queueNapiIds(this.link.ifindex, this.queueCount));
    publishNapiIds(wiring, ids, false);
  }

  detach(): void {
    if (this.state !== null) endLink(this.state);
  }

  /** The program's counters; after the end, the last ones. */
  counters(): Record<string, number> {
    if (!this.closed) this.lastCounters = this.steering.counters();
    return this.lastCounters;
  }

  close(): void {
    if (this.closed) return;
    this.detach();
    this.counters();
    this.closed = true;
    this.steering.close();
    sys.close(this.epoll);
    this.netns.close();
  }
}

/** Whether the kernel takes XDP_USE_SG: from 6.6 on. */
function hasMultiBuffer(): boolean {
  const [major, minor] = readFileSync("/proc/sys/kernel/osrelease", "utf8").split(".").map(Number);
  return major > 6 || (major === 6 && minor >= 6);
}
