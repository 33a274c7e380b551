/** Pins: names for BPF objects in a BPF file system (usually mounted at /sys/fs/bpf). */
import { Attr, bpf, checkBpf } from "./call.ts";
import { OBJ } from "./uapi.ts";

/** Pins the object behind a descriptor under `path`, which must not exist. */
export function pinObject(fd: number, path: string): void {
  const attr = new Attr().text(OBJ.pathname, path).u32(OBJ.bpf_fd, fd);
  checkBpf(
    bpf("BPF_OBJ_PIN", attr),
    "BPF_OBJ_PIN",
    {
      EPERM: "the directory is not in a BPF file system: mount -t bpf bpf /sys/fs/bpf",
      EEXIST: "the path exists: another process pinned there, or an earlier one left it; remove it or choose another",
      ENOENT: "the directory does not exist",
      EINVAL: "the descriptor is no BPF object's, or the name contains a dot",
    },
    path,
  );
}

/** Opens what is pinned under `path` and returns a descriptor. */
export function getObject(path: string): number {
  const attr = new Attr().text(OBJ.pathname, path);
  return checkBpf(
    bpf("BPF_OBJ_GET", attr),
    "BPF_OBJ_GET",
    {
      ENOENT: "nothing is pinned there",
      EACCES: "the path is not in a BPF file system, or its permissions refuse it",
    },
    path,
  );
}
