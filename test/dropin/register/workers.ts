/** Starts importer.ts in a worker, with the preload and without. Run by register.test.ts. */
const importer = new URL("./importer.ts", import.meta.url).href;

for (const preload of [[], ["lcore/register"]]) {
  const worker = new Worker(importer, { preload });
  await new Promise((resolve) => worker.addEventListener("close", resolve));
}
