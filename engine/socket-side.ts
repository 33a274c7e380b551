/** What an engine on kernel sockets holds of the kernel: its namespace, and where the control thread waits. */
import { sys } from "af-xdp-bindings";
import { Epoll } from "../sockets/kernel/epoll.ts";
import { KERNEL_FRAMES, KERNEL_FRAMES_MAX } from "../sockets/kernel/frames.ts";
import type { EngineConfig } from "./config.ts";
import type { NetNs } from "./host/netns.ts";
import { setBusyPoll } from "./socket-binder.ts";
import { openNetns, type SocketsWiring } from "./wiring.ts";

const AF_INET = 2;
const SOCK_DGRAM_CLOEXEC = 0x80002;

export class SocketSide {
  /** Why it is kernel sockets, in words. */
  readonly reason: string;
  private readonly netns: NetNs;
  private readonly epoll = new Epoll();

  /** Throws RangeError for what kernel sockets cannot do. */
  static open(config: EngineConfig, reason: string, notice: (text: string) => void): SocketSide {
    config.frames ||= KERNEL_FRAMES;
    if (config.frames > KERNEL_FRAMES_MAX) {
      throw new RangeError(`frames ${config.frames}: kernel sockets take at most ${KERNEL_FRAMES_MAX} a thread`);
    }
    // None is taken, whichever was named or leads to the default route.
    config.interface = null;
    // Lcores run the module; the other threads read their sockets themselves.
    if (config.module === null) config.cpus = [];
    const netns = openNetns(config.netns);
    try {
      if (config.poll === "busy" && config.cpus.length > 0) netns.run(() => checkBusyPoll(notice));
      return new SocketSide(netns, reason);
    } catch (error) {
      netns.close();
      throw error;
    }
  }

  private constructor(netns: NetNs, reason: string) {
    this.netns = netns;
    this.reason = reason;
  }

  wiring(): SocketsWiring {
    return { kind: "sockets", netnsPath: this.netns.path, epoll: this.epoll.fd };
  }

  close(): void {
    this.epoll.close();
    this.netns.close();
  }
}

const WITHOUT = {
  SO_BUSY_POLL: "lcores spin on their sockets, the device's NAPI is not driven",
  SO_PREFER_BUSY_POLL: "reads drive the device's NAPI, and so do its interrupts, as before",
} as const;

/** Tries on a socket of its own whether those of lcores may busy poll, and says so where not. */
function checkBusyPoll(notice: (text: string) => void): void {
  const fd = sys.socket(AF_INET, SOCK_DGRAM_CLOEXEC, 0);
  if (fd < 0) return;
  const { result, option } = setBusyPoll(fd);
  if (result < 0) notice(`poll busy: ${option} needs CAP_NET_ADMIN; ${WITHOUT[option]}`);
  sys.close(fd);
}
