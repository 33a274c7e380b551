/** Text forms of programs, read a line at a time; errors name line and column. */

/** One line, and how far it is read. Columns count from 1. */
export class Scanner {
  readonly text: string;
  readonly line: number;
  private at = 0;
  /** Where the token read last began: what an error is about. */
  private token = 0;

  constructor(text: string, line: number) {
    this.text = text;
    this.line = line;
    this.skip();
  }

  get atEnd(): boolean {
    return this.at === this.text.length;
  }

  /** The column of the next token. */
  get column(): number {
    return this.at + 1;
  }

  /** Takes what a sticky expression matches here, or null. Blanks behind it are skipped. */
  take(pattern: RegExp): RegExpExecArray | null {
    const sticky = new RegExp(pattern.source, "y");
    sticky.lastIndex = this.at;
    const found = sticky.exec(this.text);
    if (found === null) return null;
    this.token = this.at;
    this.at = sticky.lastIndex;
    this.skip();
    return found;
  }

  /** take() of a literal. */
  accept(literal: string): boolean {
    if (!this.text.startsWith(literal, this.at)) return false;
    this.token = this.at;
    this.at += literal.length;
    this.skip();
    return true;
  }

  /** Throws SyntaxError unless the literal is next. */
  expect(literal: string): void {
    if (!this.accept(literal)) this.fail(`"${literal}" expected`);
  }

  /** What is next, as errors show it. */
  get next(): string {
    const [word] = /^\S+/.exec(this.text.slice(this.at)) ?? ["the end of the line"];
    return word;
  }

  /** Throws SyntaxError about what is next. */
  fail(reason: string): never {
    this.failAt(this.at, `${reason}, there is ${this.atEnd ? this.next : `"${this.next}"`}`);
  }

  /** Throws SyntaxError about the token read last. */
  failLast(reason: string): never {
    this.failAt(this.token, reason);
  }

  /** Throws SyntaxError unless the line is read. */
  end(): void {
    if (!this.atEnd) this.fail("the end of the line expected");
  }

  private failAt(at: number, reason: string): never {
    throw new SyntaxError(`BPF program: line ${this.line}, column ${at + 1}: ${reason}`);
  }

  private skip(): void {
    while (this.at < this.text.length && /\s/.test(this.text[this.at])) this.at++;
  }
}

/** Lines that have something on them beside comments, which are as in C, or go from a semicolon to the line's end. */
export function linesOf(text: string): Scanner[] {
  const blank = (comment: string): string => comment.replace(/[^\n]/g, " ");
  const plain = text.replace(/\/\*[\s\S]*?\*\//g, blank).replace(/;.*/g, blank);
  return plain
    .split("\n")
    .map((line, i) => new Scanner(line.trimEnd(), i + 1))
    .filter((scanner) => !scanner.atEnd);
}

const NUMBER = /[-+]?(?:0[xX][0-9a-fA-F]+|0[bB][01]+|\d+)/;

/** A number as C writes it; one that begins with 0 is octal. Throws SyntaxError unless it lies between `low` and `high`. */
export function numberOf(scanner: Scanner, low: number, high: number): number {
  const found = scanner.take(NUMBER);
  if (found === null) return scanner.fail("a number expected");
  const [text] = found;
  const digits = text.replace(/^[-+]/, "");
  const isOctal = /^0[0-7]+$/.test(digits);
  const value = Number(isOctal ? `0o${digits}` : digits) * (text.startsWith("-") ? -1 : 1);
  if (value < low || value > high) return scanner.failLast(`${text} is not from ${low} to ${high}`);
  return value;
}
