/** The module of a target on an lcore. */
import type { Lcore } from "../lcore.ts";
import { type ServeData, serve } from "./serve.ts";

export default (lcore: Lcore): void => {
  lcore.onTurn(serve(lcore, lcore.data as ServeData));
};
