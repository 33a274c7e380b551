/** What commands print: colours where a terminal shows them, tables that fit it, numbers people read. */
import Table from "cli-table3";
import pico from "picocolors";

const coloured = process.stdout.isTTY === true && !process.env.NO_COLOR && process.env.TERM !== "dumb";

/** Colours of stdout: none where it is no terminal. */
export const colour = pico.createColors(coloured);

/** Columns of the terminal; where there is none, what fits a mail or a log. */
export const columns = (): number => (process.stdout.isTTY ? Math.max(process.stdout.columns ?? 80, 60) : 100);

const LINES = {
  top: "─",
  "top-mid": "─",
  "top-left": "",
  "top-right": "",
  bottom: "",
  "bottom-mid": "",
  "bottom-left": "",
  "bottom-right": "",
  left: "",
  "left-mid": "",
  mid: "",
  "mid-mid": "",
  right: "",
  "right-mid": "",
  middle: " ",
};

export interface Column {
  readonly head: string;
  readonly align: "left" | "right";
  /** Takes what is left of the line, and wraps. At most one column, the last. */
  readonly fill?: boolean;
}

/** A table without side borders, as wide as its content, or as the terminal where a column fills it. */
export function table(head: readonly Column[], rows: readonly (readonly string[])[]): string {
  const plain = (text: string): number => Bun.stringWidth(text);
  const widths = head.map((column, i) => Math.max(plain(column.head), ...rows.map((row) => plain(row[i]))) + 2);
  const fill = head.findIndex((column) => column.fill);
  if (fill >= 0) {
    const others = widths.reduce((sum, width, i) => (i === fill ? sum : sum + width + 1), 0);
    widths[fill] = Math.min(widths[fill], Math.max(columns() - others - 1, 20));
  }
  const out = new Table({
    chars: LINES,
    head: head.map((column) => colour.bold(column.head)),
    colAligns: head.map((column) => column.align),
    colWidths: widths,
    style: { head: [], border: [], "padding-left": 0, "padding-right": 1 },
    wordWrap: true,
  });
  for (const row of rows) out.push([...row]);
  return out
    .toString()
    .split("\n")
    .map((line) => line.trimEnd())
    .join("\n");
}

/** Text in lines that fit the terminal. */
export const wrap = (text: string): string => Bun.wrapAnsi(text, columns() - 1);

/** 1234567 as "1,234,567". */
export const whole = (value: number): string => Math.round(value).toLocaleString("en-US");

/** Three digits with a unit: 1234567 as "1.23 M". */
export function short(value: number): string {
  const [scale, unit] = value >= 1e9 ? [1e9, " G"] : value >= 1e6 ? [1e6, " M"] : value >= 1e3 ? [1e3, " k"] : [1, ""];
  return `${digits(value / scale)}${unit}`;
}

/** Nanoseconds with the unit that fits. */
export function duration(ns: number): string {
  if (ns >= 1e9) return `${digits(ns / 1e9)} s`;
  if (ns >= 1e6) return `${digits(ns / 1e6)} ms`;
  if (ns >= 1e3) return `${digits(ns / 1e3)} µs`;
  return `${Math.round(ns)} ns`;
}

function digits(value: number): string {
  if (value === 0) return "0";
  return value.toFixed(value >= 100 ? 0 : value >= 10 ? 1 : 2);
}
