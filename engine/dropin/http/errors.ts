/** What a connection's peer does wrong, as node:http tells it, and what is answered then. */
import { R_BOTH, R_CODING, R_FIELD, R_HOST, R_LENGTH, R_METHOD, R_SIZE, R_TARGET, R_VERSION } from "../../http/head.ts";

type Coded = Error & { code: string; reason?: string };

/** By `reason` of a head: the code that llhttp has for it, and words. */
const REASONS: Record<number, readonly [code: string, words: string]> = {
  [R_METHOD]: ["HPE_INVALID_METHOD", "Invalid method encountered"],
  [R_TARGET]: ["HPE_INVALID_URL", "Invalid request target"],
  [R_VERSION]: ["HPE_INVALID_VERSION", "Invalid HTTP version"],
  [R_FIELD]: ["HPE_INVALID_HEADER_TOKEN", "Invalid header field"],
  [R_HOST]: ["HPE_INVALID_HEADER_TOKEN", "Invalid Host header"],
  [R_LENGTH]: ["HPE_INVALID_CONTENT_LENGTH", "Invalid Content-Length"],
  [R_CODING]: ["HPE_INVALID_TRANSFER_ENCODING", "Request has invalid `Transfer-Encoding`"],
  [R_BOTH]: ["HPE_INVALID_TRANSFER_ENCODING", "Content-Length, or HTTP/1.0, with Transfer-Encoding"],
  [R_SIZE]: ["HPE_HEADER_OVERFLOW", "Header overflow"],
};

const coded = (message: string, code: string, reason?: string): Coded =>
  Object.assign(new Error(message), reason === undefined ? { code } : { code, reason });

const parseError = (code: string, words: string): Coded => coded(`Parse Error: ${words}`, code, words);

/** A head that was refused. @param reason of the head */
export function parse(reason: number): Coded {
  const [code, words] = REASONS[reason] ?? ["HPE_USER", "Invalid request"];
  return parseError(code, words);
}

export const chunk = (): Coded => parseError("HPE_INVALID_CHUNK_SIZE", "Invalid chunk, or trailers");
export const ended = (): Coded => parseError("HPE_INVALID_EOF_STATE", "Invalid EOF state");
export const timeout = (): Coded => coded("Request timeout", "ERR_HTTP_REQUEST_TIMEOUT");
export const aborted = (): Coded => coded("aborted", "ECONNRESET");

const ANSWERS: Record<string, string> = {
  HPE_HEADER_OVERFLOW: "431 Request Header Fields Too Large",
  ERR_HTTP_REQUEST_TIMEOUT: "408 Request Timeout",
};

/** The answer to what was wrong. */
export function answer(error: Error): string {
  return `HTTP/1.1 ${ANSWERS[(error as Coded).code] ?? "400 Bad Request"}\r\nConnection: close\r\n\r\n`;
}

/** An option that is not there. */
export const notThere = (name: string, why: string): Error =>
  Object.assign(new TypeError(`lcore/http: the option '${name}' is not supported: ${why}`), {
    code: "ERR_FEATURE_UNAVAILABLE_ON_PLATFORM",
  });
