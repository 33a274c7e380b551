export * from "./bpf/index.ts";
export * from "./errno.ts";
export * as sys from "./sys.ts";
