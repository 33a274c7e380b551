/**
 * Interface and CPU settings that only sysfs and procfs have: queue directories, gro_flush_timeout,
 * napi_defer_hard_irqs, the driver, the NUMA node, CPU sets, interrupt affinity.
 *
 * Sources: Documentation/ABI/testing/sysfs-class-net, sysfs-devices-system-cpu; Documentation/core-api/irq.
 */
import { closeSync, existsSync, readdirSync, readFileSync, readlinkSync, writeFileSync } from "node:fs";
import { basename } from "node:path";
import { check, sys } from "af-xdp-bindings";
import { parseCpuList } from "./cpu-list.ts";

const FSOPEN_CLOEXEC = 1;
const FSCONFIG_CMD_CREATE = 6;
const FSMOUNT_CLOEXEC = 1;

/** Settings an administrator sees under /sys/class/net/NAME. */
export type InterfaceSetting =
  | "gro_flush_timeout"
  | "napi_defer_hard_irqs"
  | "threaded"
  | `queues/rx-${number}/rps_cpus`;

/**
 * The interfaces of a network namespace in sysfs.
 *
 * A mounted sysfs shows the namespace it was mounted in, whatever namespace the reader is in. So this opens a sysfs
 * of its own for the thread's present namespace, attached to no directory (fsopen, fsmount; Linux 5.2): nothing of the
 * machine's mounts changes, and it goes away with its descriptor.
 */
export class Sysfs {
  private readonly fd: number;
  private readonly root: string;

  private constructor(fd: number) {
    this.fd = fd;
    this.root = fd < 0 ? "/sys" : `/proc/self/fd/${fd}`;
  }

  /** The sysfs of the thread's namespace. Needs CAP_SYS_ADMIN. */
  static open(): Sysfs {
    return new Sysfs(mountDetached());
  }

  /** What is mounted at /sys: needs no privilege, right for a process that never left its namespace. */
  static mounted(): Sysfs {
    return new Sysfs(-1);
  }

  close(): void {
    if (this.fd >= 0) closeSync(this.fd);
  }

  interfaces(): string[] {
    // Files beside the interfaces (bonding_masters) have no ifindex.
    return readdirSync(`${this.root}/class/net`).filter((name) => existsSync(this.path(name, "ifindex")));
  }

  queues(name: string): { rx: number; tx: number } {
    const entries = readdirSync(this.path(name, "queues"));
    return {
      rx: entries.filter((entry) => entry.startsWith("rx-")).length,
      tx: entries.filter((entry) => entry.startsWith("tx-")).length,
    };
  }

  /** Whether this sysfs shows the interface with this number and MAC address: whether it is of its namespace. */
  shows(name: string, ifindex: number, mac: Uint8Array): boolean {
    const file = this.path(name, "address");
    if (!existsSync(file) || Number(readFileSync(this.path(name, "ifindex"), "utf8")) !== ifindex) return false;
    return readFileSync(file, "utf8").trim().replaceAll(":", "") === mac.toHex();
  }

  /** CPUs that RPS spreads a receive queue's packets over, none while it is off: hexadecimal words, highest first. */
  rpsCpus(name: string, queue: number): number[] {
    const text = this.read(name, `queues/rx-${queue}/rps_cpus`);
    const bits = BigInt(`0x${text.replaceAll(",", "")}`);
    return Array.from({ length: text.length * 4 }, (_, cpu) => cpu).filter((cpu) => (bits >> BigInt(cpu)) & 1n);
  }

  /** A setting as text. Throws ENOENT where the interface has none. */
  setting(name: string, setting: InterfaceSetting): string {
    return this.read(name, setting);
  }

  setSetting(name: string, setting: InterfaceSetting, value: string): void {
    this.write(name, setting, value);
  }

  /** Nanoseconds before GRO hands on what it holds, and before interrupts come back after deferral. */
  groFlushTimeoutNs(name: string): number {
    return Number(this.read(name, "gro_flush_timeout"));
  }

  setGroFlushTimeoutNs(name: string, ns: number): void {
    this.write(name, "gro_flush_timeout", ns);
  }

  /** Empty polls after which NAPI turns the interrupt on again. */
  napiDeferHardIrqs(name: string): number {
    return Number(this.read(name, "napi_defer_hard_irqs"));
  }

  setNapiDeferHardIrqs(name: string, polls: number): void {
    this.write(name, "napi_defer_hard_irqs", polls);
  }

  /** Whether NAPI runs in kernel threads instead of softirq. */
  threadedNapi(name: string): boolean {
    return this.read(name, "threaded") !== "0";
  }

  /** Throws ENOTSUP while the interface has no NAPI instance (veth without GRO and XDP). */
  setThreadedNapi(name: string, on: boolean): void {
    this.write(name, "threaded", on ? 1 : 0);
  }

  /** Driver of the device below ("virtio_net"), or "" for a software device. */
  driver(name: string): string {
    const link = this.path(name, "device/driver");
    return existsSync(link) ? basename(readlinkSync(link)) : "";
  }

  /** NUMA node of the device, or -1 when it has none or the machine has only one. */
  numaNode(name: string): number {
    const file = this.path(name, "device/numa_node");
    return existsSync(file) ? Number(readFileSync(file, "utf8")) : -1;
  }

  /** Message-signalled interrupts of the device (of the PCI function for a virtio device); none for software. */
  irqs(name: string): number[] {
    for (const directory of ["device/msi_irqs", "device/../msi_irqs"]) {
      const path = this.path(name, directory);
      if (existsSync(path)) return readdirSync(path).map(Number);
    }
    return [];
  }

  private path(name: string, file: string): string {
    return `${this.root}/class/net/${name}/${file}`;
  }

  private read(name: string, setting: InterfaceSetting): string {
    return readFileSync(this.path(name, setting), "utf8").trim();
  }

  private write(name: string, setting: InterfaceSetting, value: number | string): void {
    writeFileSync(this.path(name, setting), String(value));
  }
}

function mountDetached(): number {
  const hints = { EPERM: "needs CAP_SYS_ADMIN: run as root", ENOSYS: "needs Linux 5.2" };
  const type = new TextEncoder().encode("sysfs\0");
  const context = check(sys.sys3(sys.SYS.fsopen, sys.addressOf(type), FSOPEN_CLOEXEC, 0), "fsopen(sysfs)", hints);
  try {
    check(sys.sys6(sys.SYS.fsconfig, context, FSCONFIG_CMD_CREATE, 0, 0, 0, 0), "fsconfig(sysfs)", hints);
    return check(sys.sys3(sys.SYS.fsmount, context, FSMOUNT_CLOEXEC, 0), "fsmount(sysfs)", hints);
  } finally {
    sys.close(context);
  }
}

/** CPUs by state: online now, possible in the machine's life, isolated from the scheduler (isolcpus=). */
export function cpuSet(which: "online" | "possible" | "isolated"): number[] {
  return parseCpuList(readFileSync(`/sys/devices/system/cpu/${which}`, "utf8"));
}

/** CPUs that may serve an interrupt; `effective` those that do. */
export function irqAffinity(irq: number, effective = false): number[] {
  const file = effective ? "effective_affinity_list" : "smp_affinity_list";
  return parseCpuList(readFileSync(`/proc/irq/${irq}/${file}`, "utf8"));
}

/** What an interrupt is for, as its driver says: "eth0-TxRx-3", "virtio2-input.0"; "" where nobody serves it. */
export function irqName(irq: number): string {
  const file = `/sys/kernel/irq/${irq}/actions`;
  return existsSync(file) ? readFileSync(file, "utf8").trim() : "";
}
