/**
 * bpf(2)'s numbers and layouts: include/uapi/linux/bpf.h and if_link.h of Linux 6.18.
 *
 * Offsets are of `union bpf_attr` and of the info structures, in bytes, the same on x86-64 and arm64 (every 64-bit
 * field is `__aligned_u64`). `test/queues/bpf/layout.test.ts` compares them with a C compiler's.
 */

/** enum bpf_cmd: the commands this package uses. */
export const CMD = {
  BPF_MAP_CREATE: 0,
  BPF_MAP_LOOKUP_ELEM: 1,
  BPF_MAP_UPDATE_ELEM: 2,
  BPF_MAP_DELETE_ELEM: 3,
  BPF_MAP_GET_NEXT_KEY: 4,
  BPF_PROG_LOAD: 5,
  BPF_OBJ_PIN: 6,
  BPF_OBJ_GET: 7,
  BPF_PROG_TEST_RUN: 10,
  BPF_PROG_GET_FD_BY_ID: 13,
  BPF_OBJ_GET_INFO_BY_FD: 15,
  BPF_MAP_LOOKUP_AND_DELETE_ELEM: 21,
  BPF_MAP_UPDATE_BATCH: 26,
  BPF_MAP_DELETE_BATCH: 27,
  BPF_LINK_CREATE: 28,
  BPF_LINK_UPDATE: 29,
  BPF_LINK_DETACH: 34,
} as const;

/** enum bpf_map_type: the types this package creates. */
export const MAP_TYPE = {
  BPF_MAP_TYPE_HASH: 1,
  BPF_MAP_TYPE_ARRAY: 2,
  BPF_MAP_TYPE_PERCPU_HASH: 5,
  BPF_MAP_TYPE_PERCPU_ARRAY: 6,
  BPF_MAP_TYPE_LRU_HASH: 9,
  BPF_MAP_TYPE_LRU_PERCPU_HASH: 10,
  BPF_MAP_TYPE_XSKMAP: 17,
  BPF_MAP_TYPE_REUSEPORT_SOCKARRAY: 20,
} as const;

/** enum bpf_prog_type: the types this package loads. */
export const PROG_TYPE = {
  BPF_PROG_TYPE_SOCKET_FILTER: 1,
  BPF_PROG_TYPE_SCHED_CLS: 3,
  BPF_PROG_TYPE_XDP: 6,
  BPF_PROG_TYPE_SK_REUSEPORT: 21,
} as const;

/** enum bpf_attach_type. */
export const BPF_XDP = 37;

/** Flags of BPF_MAP_UPDATE_ELEM: create or replace, create only (EEXIST), replace only (ENOENT). */
export const BPF_ANY = 0;
export const BPF_NOEXIST = 1;
export const BPF_EXIST = 2;

/** Flags of BPF_MAP_CREATE. */
export const BPF_F_NO_PREALLOC = 1 << 0;
export const BPF_F_RDONLY_PROG = 1 << 7;
export const BPF_F_WRONLY_PROG = 1 << 8;
export const BPF_F_MMAPABLE = 1 << 10;

/** Flag of BPF_PROG_LOAD: the program understands multi-buffer frames (jumbo, XDP_USE_SG); Linux 5.18. */
export const BPF_F_XDP_HAS_FRAGS = 1 << 5;

/** Flag of BPF_LINK_UPDATE: `old_prog_fd` must be the program attached now. */
export const BPF_F_REPLACE = 1 << 2;

/** if_link.h: the attach mode, in BPF_LINK_CREATE's `flags`. */
export const XDP_FLAGS_SKB_MODE = 1 << 1;
export const XDP_FLAGS_DRV_MODE = 1 << 2;

/** enum xdp_action: what an XDP program returns. */
export const XDP_ABORTED = 0;
export const XDP_DROP = 1;
export const XDP_PASS = 2;
export const XDP_TX = 3;
export const XDP_REDIRECT = 4;

/** BPF_OBJ_NAME_LEN: object names hold 15 characters of [A-Za-z0-9_.] and a NUL. */
export const BPF_OBJ_NAME_LEN = 16;

/** Bytes of `union bpf_attr` passed to the kernel; bytes a kernel does not know must be zero, so more is harmless. */
export const ATTR_SIZE = 168;

/** union bpf_attr, BPF_MAP_CREATE. */
export const MAP_CREATE = {
  map_type: 0,
  key_size: 4,
  value_size: 8,
  max_entries: 12,
  map_flags: 16,
  inner_map_fd: 20,
  numa_node: 24,
  map_name: 28,
  map_ifindex: 44,
  map_extra: 64,
} as const;

/** union bpf_attr, BPF_MAP_*_ELEM and BPF_MAP_GET_NEXT_KEY; `next_key` shares `value`'s place. */
export const MAP_ELEM = { map_fd: 0, key: 8, value: 16, flags: 24 } as const;

/** union bpf_attr, `batch`: BPF_MAP_*_BATCH. */
export const MAP_BATCH = {
  in_batch: 0,
  out_batch: 8,
  keys: 16,
  values: 24,
  count: 32,
  map_fd: 36,
  elem_flags: 40,
  flags: 48,
} as const;

/** union bpf_attr, BPF_PROG_LOAD. */
export const PROG_LOAD = {
  prog_type: 0,
  insn_cnt: 4,
  insns: 8,
  license: 16,
  log_level: 24,
  log_size: 28,
  log_buf: 32,
  kern_version: 40,
  prog_flags: 44,
  prog_name: 48,
  prog_ifindex: 64,
  expected_attach_type: 68,
} as const;

/** union bpf_attr, BPF_OBJ_PIN and BPF_OBJ_GET. */
export const OBJ = { pathname: 0, bpf_fd: 8, file_flags: 12 } as const;

/** union bpf_attr, `test`: BPF_PROG_TEST_RUN. */
export const TEST_RUN = {
  prog_fd: 0,
  retval: 4,
  data_size_in: 8,
  data_size_out: 12,
  data_in: 16,
  data_out: 24,
  repeat: 32,
  duration: 36,
  ctx_size_in: 40,
  ctx_size_out: 44,
  ctx_in: 48,
  ctx_out: 56,
  flags: 64,
  cpu: 68,
  batch_size: 72,
} as const;

/** union bpf_attr, BPF_*_GET_FD_BY_ID and BPF_*_GET_NEXT_ID; each `*_id` shares `start_id`'s place. */
export const BY_ID = { start_id: 0, next_id: 4, open_flags: 8 } as const;

/** union bpf_attr, `info`: BPF_OBJ_GET_INFO_BY_FD. */
export const INFO = { bpf_fd: 0, info_len: 4, info: 8 } as const;

/** union bpf_attr, `link_create`; `target_ifindex` shares `target_fd`'s place. */
export const LINK_CREATE = { prog_fd: 0, target_ifindex: 4, attach_type: 8, flags: 12 } as const;

/** union bpf_attr, `link_update`. */
export const LINK_UPDATE = { link_fd: 0, new_prog_fd: 4, flags: 8, old_prog_fd: 12 } as const;

/** union bpf_attr, `link_detach`. */
export const LINK_DETACH = { link_fd: 0 } as const;

/** struct bpf_map_info, up to what this package reads. */
export const MAP_INFO = {
  type: 0,
  id: 4,
  key_size: 8,
  value_size: 12,
  max_entries: 16,
  map_flags: 20,
  name: 24,
} as const;

/** struct bpf_prog_info, up to what this package reads. */
export const PROG_INFO = {
  type: 0,
  id: 4,
  tag: 8,
  jited_prog_len: 16,
  xlated_prog_len: 20,
  load_time: 40,
  created_by_uid: 48,
  nr_map_ids: 52,
  name: 64,
} as const;

/** struct bpf_link_info; `xdp.ifindex` is 0 once the link is detached or its interface gone. */
export const LINK_INFO = { type: 0, id: 4, prog_id: 8, xdp_ifindex: 16 } as const;

/** Bytes to offer for any info structure: the kernel fills what it knows and reports how much that was. */
export const INFO_SIZE = 256;

/** struct xdp_md, the context of an XDP program. */
export const XDP_MD = {
  data: 0,
  data_end: 4,
  data_meta: 8,
  ingress_ifindex: 12,
  rx_queue_index: 16,
  egress_ifindex: 20,
} as const;
export const XDP_MD_SIZE = 24;
