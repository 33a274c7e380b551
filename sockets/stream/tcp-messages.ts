/**
 * What an lcore and a thread say to each other about the thread's TCP connections on the lcore: messages of 16 words, kinds
 * 32 to 47, over the rings of the mesh. A connection is named by its id on the lcore and that id's generation.
 */

// ---- thread to lcore ----

/** connect(2), with the words of TCP_PREPARE that came before it. */
export const MSG_TCP_CONNECT = 32;
/**
 * Words that the record of the next TCP_CONNECT of this thread begins with: X_COUNT, pairs of word and value from X_PAIRS on. Of
 * FILTER a use is given away.
 */
export const MSG_TCP_PREPARE = 33;
/** Bytes to be sent, in a frame that was lent. */
export const MSG_TCP_SEND = 34;
/** The first bytes received are to be sent back, and have been read by that. */
export const MSG_TCP_ECHO = 35;
/** Bytes that have been read: X_COUNT, pairs of id and bytes from X_PAIRS on. */
export const MSG_TCP_CONSUMED = 36;
/** A call without bytes: X_CALL. */
export const MSG_TCP_CALL = 37;
/** Connections of a listener have been accepted: X_RECORD, X_RECORD_GENERATION, X_ACCEPTED. */
export const MSG_TCP_ACCEPTED = 38;

// ---- lcore to thread ----

/** Something has happened to a connection: X_EVENTS, and what has come in order since, X_PAIRS pairs of offset and length. */
export const MSG_TCP_TELL = 40;
/** A listener of the thread has a connection. */
export const MSG_TCP_ACCEPT = 41;
/** The answer to TCP_CONNECT. */
export const MSG_TCP_CONNECTING = 42;

export const X_ID = 1;
export const X_GENERATION = 2;

/** TCP_SEND, TCP_ECHO: bytes, MSG_ bits and X_WANTS, bytes read before it; the frame, and where in the lcore's memory bytes begin. */
export const X_LENGTH = 3;
export const X_FLAGS = 4;
export const X_CONSUMED = 5;
export const X_FRAME = 6;
export const X_OFFSET = 7;
/** A bit of X_FLAGS above all of send(2): the writer waits for room. */
export const X_WANTS = 1 << 30;

/** TCP_CALL: CALL_, and its arguments. */
export const X_CALL = 3;
export const X_ARGUMENT = 4;
export const X_VALUE = 5;
export const CALL_SHUTDOWN = 1;
export const CALL_CLOSE = 2;
export const CALL_ABORT = 3;
/** X_ARGUMENT is the option, X_VALUE its value. */
export const CALL_OPTION = 4;
/** A write found no room: EV_WRITABLE is to be told when there is some. */
export const CALL_WANT = 5;
/** X_ARGUMENT is the socket filter that it has from now on, of which a use is given away, or 0. */
export const CALL_FILTER = 6;

/** TCP_PREPARE, TCP_CONSUMED. */
export const X_COUNT = 1;
export const X_PAIRS = 2;
export const PAIRS_MAX = 7;

/** TCP_CONNECT: the thread's name for it; X_ID is a record to be used again, or -1. */
export const X_TOKEN = 2;
export const X_V6 = 3;
export const X_PORT = 4;
/** Socket table's record of a socket that is bound, or -1. */
export const X_BOUND = 5;
/** Four words, IPv4 mapped. */
export const X_REMOTE = 6;

/** TCP_CONNECTING: X_ID, X_GENERATION, the token; an errno or 0. */
export const X_TOKEN_ANSWERED = 3;
export const X_RESULT = 4;

/** TCP_ACCEPT and TCP_ACCEPTED: the listener's record in the socket table and its generation. */
export const X_RECORD = 3;
export const X_RECORD_GENERATION = 4;
export const X_ACCEPTED = 5;

/** TCP_TELL: EV_ bits of sockets/tcp/tcb.ts and TELL_FIN; errno; with EV_URGENT the words URGENT and RCV_UP. */
export const X_EVENTS = 3;
export const X_ERRNO = 4;
export const X_URGENT = 5;
export const X_MARK = 6;
/** Pairs of offset and length, a length of 0 ends them. */
export const X_PIECES = 8;
export const PIECES_MAX = 4;
/** The peer sends no more. */
export const TELL_FIN = 1 << 8;
