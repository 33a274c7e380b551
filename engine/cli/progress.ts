/** How far a measurement is: a bar on a terminal, a line a step elsewhere. On stderr, so that stdout holds the figures. */
import cliProgress from "cli-progress";

/** Often enough to look alive, seldom enough not to be what the tail of the latencies shows. */
const UPDATE_MS = 250;

export class Progress {
  private readonly bar: cliProgress.SingleBar | null;
  private readonly totalMs: number;
  private readonly startedAt = performance.now();
  private payload: { step: string } | null = null;
  private readonly timer: ReturnType<typeof setInterval> | null;

  /** @param totalMs how long everything is expected to take */
  constructor(totalMs: number) {
    this.totalMs = totalMs;
    if (process.stderr.isTTY !== true) {
      this.bar = null;
      this.timer = null;
      return;
    }
    this.bar = new cliProgress.SingleBar(
      { format: "{bar} {percentage} %  {step}", hideCursor: true, clearOnComplete: true, barsize: 24, fps: 4 },
      cliProgress.Presets.shades_classic,
    );
    this.bar.start(totalMs, 0, { step: "" });
    this.timer = setInterval(() => this.update(), UPDATE_MS);
  }

  /** What is done from now on. */
  step(text: string): void {
    if (this.bar === null) process.stderr.write(`${text}\n`);
    else this.update({ step: text });
  }

  /** Something to look at in the meantime; nothing where there is no terminal. */
  note(text: string): void {
    this.payload = { step: text };
  }

  /** Takes the bar away and shows the cursor again. */
  end(): void {
    if (this.timer !== null) clearInterval(this.timer);
    this.bar?.stop();
  }

  private update(payload: { step: string } | null = this.payload): void {
    // Not beyond 99 %: the end is when it is over.
    const value = Math.min(performance.now() - this.startedAt, this.totalMs * 0.99);
    if (payload === null) this.bar?.update(value);
    else this.bar?.update(value, payload);
  }
}
