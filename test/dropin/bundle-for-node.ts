/** Programs of this directory for Node, which reads no TypeScript. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

/**
 * Bundles NAME.ts into a directory. Returns the path of the file.
 * @param external the drop-in that it imports when it does not run in Node
 */
export async function bundleForNode(name: string, external: string, directory: string): Promise<string> {
  const entrypoints = [fileURLToPath(new URL(`./${name}.ts`, import.meta.url))];
  const built = await Bun.build({ entrypoints, target: "node", format: "esm", external: [external] });
  if (!built.success) throw new AggregateError(built.logs, "bundle for Node");
  const file = join(directory, `${name}.mjs`);
  writeFileSync(file, await built.outputs[0].text());
  return file;
}
