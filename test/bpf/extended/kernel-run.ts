/** Runs one loaded program again and again in the kernel (BPF_PROG_TEST_RUN), with as little around the call as there can be. */
import { type Program, SysError, sys } from "af-xdp-bindings";
import { ATTR_SIZE, CMD, TEST_RUN } from "../../../queues/af-xdp-bindings/src/bpf/uapi.ts";

const attr = new Uint8Array(ATTR_SIZE);
const view = new DataView(attr.buffer);
const attrAddress = sys.addressOf(attr);

/** What the program returns of the frame at `address`, `length` bytes and at least 14. */
export function kernelRun(program: Program, address: number, length: number): number {
  attr.fill(0);
  view.setUint32(TEST_RUN.prog_fd, program.fd, true);
  view.setUint32(TEST_RUN.data_size_in, length, true);
  view.setBigUint64(TEST_RUN.data_in, BigInt(address), true);
  view.setUint32(TEST_RUN.repeat, 1, true);
  const result = sys.sys3(sys.SYS.bpf, CMD.BPF_PROG_TEST_RUN, attrAddress, ATTR_SIZE);
  if (result < 0) throw new SysError(-result, "BPF_PROG_TEST_RUN");
  return view.getUint32(TEST_RUN.retval, true);
}
