/** Where files of a set have their news from (File.newsFrom): thousands of sockets of a thread have them from one end of the engine. */
import type { File } from "../file.ts";

export class NewsSources {
  private readonly sources = new Map<object, Set<File>>();

  add(file: File): void {
    const source = file.newsFrom;
    if (source === null) return;
    const files = this.sources.get(source);
    if (files === undefined) this.sources.set(source, new Set([file]));
    else files.add(file);
  }

  remove(file: File): void {
    const source = file.newsFrom;
    if (source === null) return;
    const files = this.sources.get(source);
    files?.delete(file);
    if (files?.size === 0) this.sources.delete(source);
  }

  /** One file of each source. */
  *files(): Generator<File> {
    for (const files of this.sources.values())
      for (const file of files) {
        yield file;
        break;
      }
  }
}
