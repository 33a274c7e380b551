/** CPU lists in the kernel's notation, "0-3,8" (Documentation/admin-guide/cputopology.rst). */

/** NR_CPUS of the largest kernels (CONFIG_NR_CPUS on x86-64). */
export const CPUS_MAX = 8192;

/** CPU numbers of a list, ascending as written; throws a TypeError for what is no list. */
export function parseCpuList(text: string): number[] {
  const out: number[] = [];
  const trimmed = text.trim();
  if (trimmed === "") return out;
  for (const part of trimmed.split(",")) {
    const match = /^(\d+)(?:-(\d+))?$/.exec(part);
    const first = Number(match?.[1]);
    const last = Number(match?.[2] ?? match?.[1]);
    if (match === null || last < first || last >= CPUS_MAX) throw new TypeError(`not a CPU list: ${trimmed}`);
    for (let cpu = first; cpu <= last; cpu++) out.push(cpu);
  }
  return out;
}

/** The shortest list of these CPUs, in any order given. */
export function formatCpuList(cpus: readonly number[]): string {
  const sorted = [...new Set(cpus)].sort((a, b) => a - b);
  const parts: string[] = [];
  for (let i = 0; i < sorted.length; ) {
    let end = i;
    while (end + 1 < sorted.length && sorted[end + 1] === (sorted[end] as number) + 1) end++;
    parts.push(end === i ? `${sorted[i]}` : `${sorted[i]}-${sorted[end]}`);
    i = end + 1;
  }
  return parts.join(",");
}
