/** Preloaded into a program that imports lcore/dgram: its own import on the kernel, node:dgram, in the other's place. */
import { plugin } from "bun";

plugin({
  name: "node:dgram for lcore/dgram",
  setup(build) {
    build.module("lcore/dgram", async () => ({ exports: await import("node:dgram"), loader: "object" }));
  },
});
