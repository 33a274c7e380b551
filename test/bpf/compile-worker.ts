/** Compiles the programs of `workerData` and posts what each says of one packet. */
import { parentPort, workerData } from "node:worker_threads";
import { compileClassic, type SockFilter } from "../../sockets/bpf/classic.ts";

const programs = workerData as SockFilter[][];
parentPort?.postMessage(programs.map((program) => compileClassic(program)(Uint8Array.of(7), 0, 1)));
