/**
 * Types of programs: what each may read of its context, and which helpers it may call (net/core/filter.c of Linux 6.18:
 * sk_filter_is_valid_access, sk_reuseport_is_valid_access, tc_cls_act_is_valid_access and the func_proto functions beside them).
 *
 * The context is given to a compiled program as words (an Int32Array of META_WORDS): first struct __sk_buff or struct
 * sk_reuseport_md as in include/uapi/linux/bpf.h, each field of 32 bits at its offset / 4; then what helpers ask for. Length and
 * packet addresses are not read from there: they are the arguments of the program.
 */
import { HELPER } from "af-xdp-bindings";

/** Words behind the context. */
export const META = {
  /** Where the network and the link header begin, bytes from the packet's first byte. */
  networkOffset: 48,
  linkOffset: 49,
  /** What get_smp_processor_id gives; of per-CPU maps the copy, modulo how many there are. */
  cpu: 50,
  /** What ktime_get_ns gives: low and high word. */
  timeLow: 51,
  timeHigh: 52,
  /** What sk_select_reuseport chose: the number in the map, or -1. Set to -1 when a program starts. */
  selected: 53,
  /** The reuseport group that is chosen from: sk_select_reuseport gives none of another. */
  group: 54,
} as const;
export const META_WORDS = 56;

/** struct __sk_buff: bytes from its start. `protocol` and `vlan_proto` are in network order. */
export const SKB = {
  len: 0,
  pkt_type: 4,
  mark: 8,
  queue_mapping: 12,
  protocol: 16,
  vlan_present: 20,
  vlan_tci: 24,
  vlan_proto: 28,
  priority: 32,
  ingress_ifindex: 36,
  ifindex: 40,
  tc_index: 44,
  cb: 48,
  hash: 68,
  tc_classid: 72,
  data: 76,
  data_end: 80,
  napi_id: 84,
  gso_segs: 164,
  gso_size: 176,
} as const;

/** struct sk_reuseport_md. `eth_protocol` is in network order. */
export const REUSEPORT_MD = {
  data: 0,
  data_end: 8,
  len: 16,
  eth_protocol: 20,
  ip_protocol: 24,
  bind_inany: 28,
  hash: 32,
} as const;

export const FIELD_WORD = 0;
export const FIELD_LENGTH = 1;
export const FIELD_PACKET = 2;
export const FIELD_PACKET_END = 3;

export interface Field {
  readonly offset: number;
  /** Bytes: 4, or 8 for an address of sk_reuseport_md. */
  readonly size: number;
  readonly what: number;
  /** Bytes that a load takes at least. */
  readonly least: number;
  readonly writable: boolean;
}

export interface ProgramType {
  readonly name: ProgramTypeName;
  readonly fields: readonly Field[];
  readonly helpers: ReadonlySet<number>;
  /** Whether LD_ABS and LD_IND are allowed. */
  readonly legacyLoads: boolean;
}

export type ProgramTypeName = "socket_filter" | "sk_reuseport" | "sched_cls";

const field = (offset: number, more: Partial<Field> = {}): Field => ({
  offset,
  size: 4,
  what: FIELD_WORD,
  least: 1,
  writable: false,
  ...more,
});

/** Fields of __sk_buff that a socket filter may read. */
const SKB_FIELDS: readonly Field[] = [
  field(SKB.len, { what: FIELD_LENGTH }),
  ...[SKB.pkt_type, SKB.mark, SKB.queue_mapping, SKB.protocol, SKB.vlan_present, SKB.vlan_tci].map((at) => field(at)),
  ...[SKB.vlan_proto, SKB.priority, SKB.ingress_ifindex, SKB.ifindex, SKB.tc_index].map((at) => field(at)),
  ...[0, 1, 2, 3, 4].map((i) => field(SKB.cb + 4 * i, { writable: true })),
  ...[SKB.hash, SKB.napi_id, SKB.gso_segs, SKB.gso_size].map((at) => field(at)),
];

const EVERYWHERE = [
  HELPER.map_lookup_elem,
  HELPER.map_update_elem,
  HELPER.map_delete_elem,
  HELPER.ktime_get_ns,
  HELPER.get_prandom_u32,
  HELPER.get_smp_processor_id,
  HELPER.skb_load_bytes,
  HELPER.skb_load_bytes_relative,
];

export const PROGRAM_TYPES: Readonly<Record<ProgramTypeName, ProgramType>> = {
  socket_filter: {
    name: "socket_filter",
    fields: SKB_FIELDS,
    helpers: new Set<number>(EVERYWHERE),
    legacyLoads: true,
  },
  sched_cls: {
    name: "sched_cls",
    fields: [
      ...SKB_FIELDS,
      field(SKB.data, { what: FIELD_PACKET, least: 4 }),
      field(SKB.data_end, { what: FIELD_PACKET_END, least: 4 }),
    ],
    helpers: new Set<number>([...EVERYWHERE, HELPER.get_hash_recalc]),
    legacyLoads: true,
  },
  sk_reuseport: {
    name: "sk_reuseport",
    fields: [
      field(REUSEPORT_MD.data, { size: 8, least: 8, what: FIELD_PACKET }),
      field(REUSEPORT_MD.data_end, { size: 8, least: 8, what: FIELD_PACKET_END }),
      field(REUSEPORT_MD.len, { what: FIELD_LENGTH }),
      field(REUSEPORT_MD.eth_protocol, { least: 2 }),
      field(REUSEPORT_MD.ip_protocol),
      field(REUSEPORT_MD.bind_inany),
      field(REUSEPORT_MD.hash, { least: 4 }),
    ],
    helpers: new Set<number>([...EVERYWHERE, HELPER.sk_select_reuseport]),
    legacyLoads: false,
  },
};

/** The field that an access is of; undefined where it is not allowed. `cb` is one field of 20 bytes, read and written by 1 to 8. */
export function fieldAt(type: ProgramType, offset: number, size: number, write: boolean): Field | undefined {
  if (offset < 0 || offset % size !== 0) return undefined;
  const found = type.fields.find((one) => offset >= one.offset && offset < one.offset + one.size);
  if (found === undefined || size < found.least || (write && !found.writable)) return undefined;
  if (offset + size <= found.offset + found.size) return found;
  const second = type.fields.find((one) => one.offset === offset + 4);
  return found.writable && second?.writable ? found : undefined;
}
