/** Statuses that are answered with, and counts of them. */

const PHRASES: Record<number, string> = {
  200: "OK",
  206: "Partial Content",
  301: "Moved Permanently",
  304: "Not Modified",
  400: "Bad Request",
  403: "Forbidden",
  404: "Not Found",
  405: "Method Not Allowed",
  408: "Request Timeout",
  412: "Precondition Failed",
  413: "Content Too Large",
  414: "URI Too Long",
  416: "Range Not Satisfiable",
  417: "Expectation Failed",
  431: "Request Header Fields Too Large",
  500: "Internal Server Error",
  501: "Not Implemented",
  503: "Service Unavailable",
  505: "HTTP Version Not Supported",
};

export const STATUSES: readonly number[] = Object.keys(PHRASES).map(Number);
export const phrase = (status: number): string => PHRASES[status];

/** Place of each status in STATUSES. */
const PLACE = new Uint8Array(600);
for (const [i, status] of STATUSES.entries()) PLACE[status] = i;

const CONNECTIONS = 0;
const BYTES = 1;
const FIRST_STATUS = 2;
const COUNTS = FIRST_STATUS + STATUSES.length;

export interface HttpTotals {
  readonly connections: number;
  /** Answers, of every status. */
  readonly requests: number;
  /** Octets of their contents, heads not counted. */
  readonly bytes: number;
  /** Answers by status, those that were given. */
  readonly statuses: Record<string, number>;
}

/** Counts of every lcore, in shared memory: a row each, which that lcore alone writes. */
export class HttpCounts {
  readonly buffer: SharedArrayBuffer;
  private readonly words: Float64Array;
  private readonly row: number;

  static create(lcores: number): HttpCounts {
    return new HttpCounts(new SharedArrayBuffer(lcores * COUNTS * 8), 0);
  }

  constructor(buffer: SharedArrayBuffer, lcore: number) {
    this.buffer = buffer;
    this.words = new Float64Array(buffer);
    this.row = lcore * COUNTS;
  }

  connection(): void {
    this.words[this.row + CONNECTIONS]++;
  }

  answer(status: number, bytes: number): void {
    this.words[this.row + BYTES] += bytes;
    this.words[this.row + FIRST_STATUS + PLACE[status]]++;
  }

  /** Of all lcores together. */
  totals(): HttpTotals {
    const sum = (at: number): number => {
      let all = 0;
      for (let i = at; i < this.words.length; i += COUNTS) all += this.words[i];
      return all;
    };
    const given = STATUSES.map((status, i) => [String(status), sum(FIRST_STATUS + i)] as const);
    return {
      connections: sum(CONNECTIONS),
      requests: given.reduce((all, [, count]) => all + count, 0),
      bytes: sum(BYTES),
      statuses: Object.fromEntries(given.filter(([, count]) => count > 0)),
    };
  }
}
