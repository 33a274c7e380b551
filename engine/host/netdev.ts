/**
 * The `netdev` generic-netlink family: XDP abilities of an interface, its queues and their NAPI instances.
 *
 * Source: include/uapi/linux/netdev.h and Documentation/netlink/specs/netdev.yaml, Linux 6.18. The family came with
 * 6.3, queues and NAPI with 6.8, per-NAPI settings with 6.13 (irq suspend 6.14), "threaded" with 6.17.
 */
import { GenericFamily } from "./genetlink.ts";
import { type Attributes, attributeU32, uint } from "./netlink.ts";

const NETDEV_FAMILY_NAME = "netdev";
const NETDEV_FAMILY_VERSION = 1;

const NETDEV_CMD_DEV_GET = 1;
const NETDEV_CMD_QUEUE_GET = 10;
const NETDEV_CMD_NAPI_GET = 11;
const NETDEV_CMD_NAPI_SET = 14;

const NETDEV_A_DEV_IFINDEX = 1;
const NETDEV_A_DEV_XDP_FEATURES = 3;
const NETDEV_A_DEV_XDP_ZC_MAX_SEGS = 4;
const NETDEV_A_DEV_XDP_RX_METADATA_FEATURES = 5;
const NETDEV_A_DEV_XSK_FEATURES = 6;

const NETDEV_A_QUEUE_ID = 1;
const NETDEV_A_QUEUE_IFINDEX = 2;
const NETDEV_A_QUEUE_TYPE = 3;
const NETDEV_A_QUEUE_NAPI_ID = 4;
const NETDEV_A_QUEUE_XSK = 7;
const NETDEV_QUEUE_TYPE_RX = 0;

const NETDEV_A_NAPI_IFINDEX = 1;
const NETDEV_A_NAPI_ID = 2;
const NETDEV_A_NAPI_IRQ = 3;
const NETDEV_A_NAPI_PID = 4;
const NETDEV_A_NAPI_DEFER_HARD_IRQS = 5;
const NETDEV_A_NAPI_GRO_FLUSH_TIMEOUT = 6;
const NETDEV_A_NAPI_IRQ_SUSPEND_TIMEOUT = 7;

// enum netdev_xdp_act: what the driver's native XDP can do
export const NETDEV_XDP_ACT_BASIC = 1;
export const NETDEV_XDP_ACT_REDIRECT = 2;
export const NETDEV_XDP_ACT_NDO_XMIT = 4;
export const NETDEV_XDP_ACT_XSK_ZEROCOPY = 8;
export const NETDEV_XDP_ACT_HW_OFFLOAD = 16;
export const NETDEV_XDP_ACT_RX_SG = 32;
export const NETDEV_XDP_ACT_NDO_XMIT_SG = 64;

export interface NetdevFeatures {
  readonly ifindex: number;
  /** NETDEV_XDP_ACT_* bits; 0 when the driver has no native XDP. */
  readonly xdpFeatures: number;
  /** Fragments a zero-copy frame may have. */
  readonly zeroCopySegmentsMax: number;
  /** enum netdev_xdp_rx_metadata bits: 1 timestamp, 2 hash, 4 VLAN tag. */
  readonly rxMetadata: number;
  /** enum netdev_xsk_flags bits: 1 TX timestamp, 2 TX checksum, 4 launch time. */
  readonly xskFeatures: number;
}

export interface NetdevQueue {
  readonly id: number;
  readonly type: "rx" | "tx";
  /** NAPI instance that serves the queue; 0 when none does or the driver does not say (veth in 6.18). */
  readonly napiId: number;
  /** An AF_XDP zero-copy socket is bound to the queue. */
  readonly xsk: boolean;
}

export interface Napi {
  readonly id: number;
  /** Interrupt number, 0 when there is none (veth). */
  readonly irq: number;
  /** Kernel thread of threaded NAPI, 0 when it runs in softirq. */
  readonly pid: number;
  readonly deferHardIrqs: number;
  readonly groFlushTimeoutNs: number;
  readonly irqSuspendTimeoutNs: number;
}

export type NapiSettings = Partial<Pick<Napi, "deferHardIrqs" | "groFlushTimeoutNs" | "irqSuspendTimeoutNs">>;

/** The netdev family of the namespace the thread is in when this is constructed. */
export class Netdev {
  private readonly family: GenericFamily;

  /** Throws SysError ENOENT before Linux 6.3. */
  constructor() {
    this.family = new GenericFamily(NETDEV_FAMILY_NAME, NETDEV_FAMILY_VERSION);
  }

  /** Abilities of one interface; throws ENODEV when there is none. */
  features(ifindex: number): NetdevFeatures {
    const answer = this.family.request("DEV_GET", NETDEV_CMD_DEV_GET, attributeU32(NETDEV_A_DEV_IFINDEX, ifindex));
    const [device = new Map()] = answer;
    return {
      ifindex: uint(device, NETDEV_A_DEV_IFINDEX),
      xdpFeatures: uint(device, NETDEV_A_DEV_XDP_FEATURES),
      zeroCopySegmentsMax: uint(device, NETDEV_A_DEV_XDP_ZC_MAX_SEGS),
      rxMetadata: uint(device, NETDEV_A_DEV_XDP_RX_METADATA_FEATURES),
      xskFeatures: uint(device, NETDEV_A_DEV_XSK_FEATURES),
    };
  }

  /** Queues of an interface that is up; none while it is down. */
  queues(ifindex: number): NetdevQueue[] {
    return this.family
      .dump("QUEUE_GET", NETDEV_CMD_QUEUE_GET, attributeU32(NETDEV_A_QUEUE_IFINDEX, ifindex))
      .map((queue) => ({
        id: uint(queue, NETDEV_A_QUEUE_ID),
        type: uint(queue, NETDEV_A_QUEUE_TYPE) === NETDEV_QUEUE_TYPE_RX ? ("rx" as const) : ("tx" as const),
        napiId: uint(queue, NETDEV_A_QUEUE_NAPI_ID),
        xsk: queue.has(NETDEV_A_QUEUE_XSK),
      }));
  }

  /** NAPI instances of an interface that is up. On veth they exist while XDP or GRO is on. */
  napis(ifindex: number): Napi[] {
    return this.family
      .dump("NAPI_GET", NETDEV_CMD_NAPI_GET, attributeU32(NETDEV_A_NAPI_IFINDEX, ifindex))
      .map(decodeNapi);
  }

  /** Changes one NAPI instance; settings of the device (sysfs) apply to all of them. */
  setNapi(id: number, settings: NapiSettings): void {
    const { deferHardIrqs, groFlushTimeoutNs, irqSuspendTimeoutNs } = settings;
    const attributes = [attributeU32(NETDEV_A_NAPI_ID, id)];
    if (deferHardIrqs !== undefined) attributes.push(attributeU32(NETDEV_A_NAPI_DEFER_HARD_IRQS, deferHardIrqs));
    if (groFlushTimeoutNs !== undefined)
      attributes.push(attributeU32(NETDEV_A_NAPI_GRO_FLUSH_TIMEOUT, groFlushTimeoutNs));
    if (irqSuspendTimeoutNs !== undefined)
      attributes.push(attributeU32(NETDEV_A_NAPI_IRQ_SUSPEND_TIMEOUT, irqSuspendTimeoutNs));
    this.family.request("NAPI_SET", NETDEV_CMD_NAPI_SET, ...attributes);
  }

  close(): void {
    this.family.close();
  }
}

function decodeNapi(napi: Attributes): Napi {
  return {
    id: uint(napi, NETDEV_A_NAPI_ID),
    irq: uint(napi, NETDEV_A_NAPI_IRQ),
    pid: uint(napi, NETDEV_A_NAPI_PID),
    deferHardIrqs: uint(napi, NETDEV_A_NAPI_DEFER_HARD_IRQS),
    groFlushTimeoutNs: uint(napi, NETDEV_A_NAPI_GRO_FLUSH_TIMEOUT),
    irqSuspendTimeoutNs: uint(napi, NETDEV_A_NAPI_IRQ_SUSPEND_TIMEOUT),
  };
}
