/** The module of a target whose load is on the same lcore: both serve and generator, which gets its turn in each turn of the lcore. */
import { PAGE_SIZE, SharedArea, sys } from "af-xdp-bindings";
import { MemoryPort, type MemoryWire } from "../../queues/memory.ts";
import { FramePool } from "../../queues/pool.ts";
import type { Lcore } from "../lcore.ts";
import { LoadBoard } from "./board.ts";
import { Generator, type GeneratorOptions } from "./generator.ts";
import { type ServeData, serve } from "./serve.ts";

/** Structured-cloneable. */
export interface InlineData extends ServeData {
  readonly load: {
    /** Side 0 is the generator's, with one queue. */
    readonly wire: MemoryWire;
    readonly options: GeneratorOptions;
    /** Of its LoadBoard. */
    readonly board: SharedArrayBuffer;
  };
}

const FRAMES = 4096;
const FRAME_SIZE = 2048;
/** Turns between two looks at what the starter wants. */
const CONTROL_TURNS = 64;

export default (lcore: Lcore): void => {
  const { load, ...data } = lcore.data as InlineData;
  serve(lcore, data);
  const area = new SharedArea(FRAMES * FRAME_SIZE, new SharedArrayBuffer(FRAMES * FRAME_SIZE + PAGE_SIZE));
  const memory = new Uint8Array(area.buffer, area.byteOffset, area.byteLength);
  const port = MemoryPort.attach(load.wire, 0, new FramePool(FRAMES, FRAME_SIZE), memory);
  const board = new LoadBoard(load.board);
  board.tid = sys.gettid();
  const generator = new Generator([port], load.options, board);
  let turns = 0;
  lcore.onTurn(() => {
    if (turns-- === 0) {
      generator.send(board.sending, board.rate);
      turns = CONTROL_TURNS;
    }
    generator.turn();
    // Never idle: an lcore whose CPU others want sleeps when it is, and neither a request that is due nor the board wakes it.
    return 1;
  });
};
