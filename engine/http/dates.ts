/** Dates of HTTP (RFC 9110, section 5.6.7). */

const SECOND = "(?<s>[0-5]\\d|60)";
const TIME = `(?<h>[01]\\d|2[0-3]):(?<min>[0-5]\\d):${SECOND}`;
const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const MONTH = `(?<mon>${MONTHS.join("|")})`;
const DAY = "(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)";
const LONG_DAY = "(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day";
/** IMF-fixdate, and the two obsolete forms that a recipient takes as well. */
const FORMS = [
  new RegExp(`^${DAY}, (?<d>\\d\\d) ${MONTH} (?<y>\\d{4}) ${TIME} GMT$`),
  new RegExp(`^${LONG_DAY}, (?<d>\\d\\d)-${MONTH}-(?<yy>\\d\\d) ${TIME} GMT$`),
  new RegExp(`^${DAY} ${MONTH} (?<d>[ \\d]\\d) ${TIME} (?<y>\\d{4})$`),
];

/** Octets of an IMF-fixdate. */
export const DATE_BYTES = 29;

/** Seconds since 1970 as an IMF-fixdate. */
export const formatDate = (seconds: number): string => new Date(seconds * 1000).toUTCString();

/** Seconds since 1970, NaN for what is no date. */
export function parseDate(text: string): number {
  for (const form of FORMS) {
    const groups = form.exec(text)?.groups;
    if (groups === undefined) continue;
    const year = groups.y === undefined ? fullYear(Number(groups.yy)) : Number(groups.y);
    const month = MONTHS.indexOf(groups.mon);
    const day = Number(groups.d);
    const time = Date.UTC(year, month, day, Number(groups.h), Number(groups.min), Number(groups.s));
    // The 31st of a month that has 30 days is none.
    if (new Date(Date.UTC(year, month, day)).getUTCDate() !== day) return Number.NaN;
    return time / 1000;
  }
  return Number.NaN;
}

/** Two digits that would be more than 50 years ahead are of the past (RFC 9110, section 5.6.7). */
function fullYear(yy: number): number {
  const now = new Date().getUTCFullYear();
  const year = now - (now % 100) + yy;
  return year > now + 50 ? year - 100 : year;
}

/** The time of a server, by the second, as octets of a Date field. */
export class DateClock {
  /** Seconds since 1970. */
  seconds = -1;
  readonly bytes = new Uint8Array(DATE_BYTES);
  private readonly encoder = new TextEncoder();

  /** @param nowMs milliseconds since 1970 */
  update(nowMs: number): void {
    const seconds = Math.floor(nowMs / 1000);
    if (seconds === this.seconds) return;
    this.seconds = seconds;
    this.encoder.encodeInto(formatDate(seconds), this.bytes);
  }

  /** Writes the date to bytes[at, at + DATE_BYTES). */
  write(bytes: Uint8Array, at: number): void {
    for (let i = 0; i < DATE_BYTES; i++) bytes[at + i] = this.bytes[i];
  }
}
