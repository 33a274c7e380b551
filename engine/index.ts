/** What a program that embeds lcore imports: `import { Engine } from "lcore"`. */
export { SysError } from "af-xdp-bindings";
export { createMemoryWire, type MemoryWire, type Side } from "../queues/memory.ts";
export { decodeClassic, sockFprog } from "../sockets/bpf/classic.ts";
export type { SharedMap, SharedMapOptions, SocketArrayMap } from "../sockets/bpf/maps/index.ts";
export type { BpfObjects, LoadedProgram, ProgramSource } from "../sockets/bpf/objects.ts";
export { AsyncCalls } from "../sockets/calls/async-calls.ts";
export * as constants from "../sockets/calls/constants.ts";
export type { SocketProcess } from "../sockets/calls/process.ts";
export { decodeAddress, encodeAddress } from "../sockets/calls/sockaddr.ts";
export { COUNTERS, type CounterName } from "../sockets/counters.ts";
export type { Datagram } from "../sockets/datagram.ts";
export type { Sysctl, SysctlName } from "../sockets/sysctl.ts";
export { type Handler, SendFrame, type SocketAddress, type UdpOptions, UdpSocket } from "../sockets/udp-socket.ts";
export type { AttachMode, EngineOptions, MemoryLink, PollPolicy } from "./config.ts";
export { Engine, type EngineDescriptor, type EngineInfo, EngineThread } from "./engine.ts";
export type { Lcore } from "./lcore.ts";
export type { Replay, ReplayCounts, ReplayLink } from "./replay.ts";
