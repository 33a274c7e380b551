import type { DemoOptions } from "./demo.ts";
export async function runDemo(_o: DemoOptions): Promise<void> {}
