/**
 * Helper functions an XDP or socket-filter program may call, by their name without "bpf_".
 * Numbers: ___BPF_FUNC_MAPPER in include/uapi/linux/bpf.h (Linux 6.18); they never change.
 */
export const HELPER = {
  map_lookup_elem: 1,
  map_update_elem: 2,
  map_delete_elem: 3,
  ktime_get_ns: 5,
  trace_printk: 6,
  get_prandom_u32: 7,
  get_smp_processor_id: 8,
  tail_call: 12,
  redirect: 23,
  perf_event_output: 25,
  skb_load_bytes: 26,
  csum_diff: 28,
  get_hash_recalc: 34,
  get_numa_node_id: 42,
  xdp_adjust_head: 44,
  get_socket_cookie: 46,
  get_socket_uid: 47,
  redirect_map: 51,
  xdp_adjust_meta: 54,
  xdp_adjust_tail: 65,
  skb_load_bytes_relative: 68,
  fib_lookup: 69,
  sk_select_reuseport: 82,
  sk_lookup_tcp: 84,
  sk_lookup_udp: 85,
  sk_release: 86,
  map_push_elem: 87,
  map_pop_elem: 88,
  map_peek_elem: 89,
  spin_lock: 93,
  spin_unlock: 94,
  skc_lookup_tcp: 99,
  tcp_check_syncookie: 100,
  tcp_gen_syncookie: 110,
  jiffies64: 118,
  ktime_get_boot_ns: 125,
  ringbuf_output: 130,
  ringbuf_reserve: 131,
  ringbuf_submit: 132,
  ringbuf_discard: 133,
  ringbuf_query: 134,
  ktime_get_coarse_ns: 160,
  check_mtu: 163,
  for_each_map_elem: 164,
  loop: 181,
  xdp_get_buff_len: 188,
  xdp_load_bytes: 189,
  xdp_store_bytes: 190,
  map_lookup_percpu_elem: 195,
  ktime_get_tai_ns: 208,
} as const;

export type HelperName = keyof typeof HELPER;

const NAMES = new Map<number, string>(Object.entries(HELPER).map(([name, number]) => [number, name]));

/** Name of a helper, or "#999" for one the table does not have. */
export function helperName(number: number): string {
  return NAMES.get(number) ?? `#${number}`;
}
