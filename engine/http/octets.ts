/** Octets of HTTP: which ones a token, a target and a field's value may have, and comparing without regard to case. */

export const CR = 13;
export const LF = 10;
export const SP = 32;
export const TAB = 9;
export const COLON = 58;
export const SEMICOLON = 59;
export const COMMA = 44;
export const SLASH = 47;
export const QUESTION = 63;
export const HASH = 35;
export const STAR = 42;
export const PERCENT = 37;
export const QUOTE = 34;
export const DOT = 46;

const TOKEN_CHARACTERS = "!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/** 1 for octets of a token (RFC 9110, section 5.6.2). */
export const TOKEN = new Uint8Array(256);
for (const character of TOKEN_CHARACTERS) TOKEN[character.charCodeAt(0)] = 1;

/** 1 for octets of a field's value: visible ones, space, tab, and obs-text (RFC 9110, section 5.5). */
export const VALUE = new Uint8Array(256).map((_, octet) => Number((octet >= SP && octet !== 127) || octet === TAB));

/** 1 for octets of a request target: visible ASCII but for the fragment's sign, which none has. */
export const TARGET = new Uint8Array(256).map((_, octet) => Number(octet > SP && octet < 127 && octet !== HASH));

/** 1 for octets of a Host field: those of uri-host and port (RFC 3986, section 3.2.2). */
export const AUTHORITY = new Uint8Array(256);
for (const character of "!$&'()*+,-.:;=[]_~%") AUTHORITY[character.charCodeAt(0)] = 1;
for (let octet = 48; octet < 123; octet++) if (/[0-9A-Za-z]/.test(String.fromCharCode(octet))) AUTHORITY[octet] = 1;

/** Lower case of each octet, of ASCII letters only. */
const LOWER = new Uint8Array(256).map((_, octet) => (octet >= 65 && octet <= 90 ? octet + 32 : octet));

const encoder = new TextEncoder();
const decoder = new TextDecoder("latin1");

export const octets = (text: string): Uint8Array => encoder.encode(text);

/** Octets as text, one character each. */
export function text(bytes: Uint8Array, from: number, to: number): string {
  // A copy, for the decoder takes no shared memory.
  return decoder.decode(bytes.slice(from, to));
}

/** Whether the octets from `from` on are `word`. */
export function isAt(bytes: Uint8Array, from: number, to: number, word: Uint8Array): boolean {
  if (to - from < word.length) return false;
  for (let i = 0; i < word.length; i++) if (bytes[from + i] !== word[i]) return false;
  return true;
}

/** Whether the octets are `word`, which is in lower case, whatever theirs. */
export function isWord(bytes: Uint8Array, from: number, to: number, word: Uint8Array): boolean {
  if (to - from !== word.length) return false;
  for (let i = 0; i < word.length; i++) if (LOWER[bytes[from + i]] !== word[i]) return false;
  return true;
}

/** Value of a hexadecimal digit, -1 for another octet. */
export function hexDigit(octet: number): number {
  if (octet >= 48 && octet <= 57) return octet - 48;
  const letter = octet | 32;
  return letter >= 97 && letter <= 102 ? letter - 87 : -1;
}

/** The number in decimal digits, -1 for anything else; from 2^53 on `Infinity`, which is larger than every bound. */
export function decimal(bytes: Uint8Array, from: number, to: number): number {
  if (from >= to) return -1;
  let value = 0;
  for (let i = from; i < to; i++) {
    const digit = bytes[i] - 48;
    if (digit < 0 || digit > 9) return -1;
    value = value * 10 + digit;
  }
  return value > Number.MAX_SAFE_INTEGER ? Number.POSITIVE_INFINITY : value;
}
