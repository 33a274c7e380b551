/**
 * What crosses between threads: one cache line (16 words) a message, over the SPSC rings of the mesh.
 *
 * Frames never move: a message names a frame of an lcore's memory, and whoever holds the message may read the frame.
 * Each frame goes home to its lcore exactly once, by FREE, REPLY or SEND.
 */

/** lcore to reader: a datagram for a socket. The reader owns the frame. */
export const MSG_DELIVER = 1;
/** Reader to the frame's lcore: up to 14 frames to free. Word 1 is the count, words 2.. the frames. */
export const MSG_FREE = 2;
/** Reader to the frame's lcore: turn the datagram round and send its payload area, now `M_PAYLOAD_LENGTH` bytes. */
export const MSG_REPLY = 3;
/** Thread to lcore: send the payload in a frame lent by MSG_LEND. */
export const MSG_SEND = 4;
/** lcore to thread: up to 14 frames to send from. Word 1 is the count, words 2.. the frames. */
export const MSG_LEND = 5;
/** Thread to lcore: it has joined the mesh and wants frames lent. */
export const MSG_HELLO = 6;
/** … or somebody in its name: it has gone, its sockets are closed, and the frames that it has are the lcore's again. */
export const MSG_BYE = 7;

/**
 * lcore (the control thread, mostly) to the thread of a socket: the network reports an error about what it has sent. The
 * reader owns the frame with the excerpt of the payload, where there is one.
 */
export const MSG_ERROR = 8;

/** lcore to the thread of a socket with a send buffer: M_SEND_CHARGE bytes of its have left. */
export const MSG_SENT = 9;

/**
 * lcore to the thread of the host protocols: a frame that is not for a socket, or to be sent to where only they know the
 * way. M_REASON says which (HOST_...), M_L3 where it begins. The reader owns the frame.
 */
export const MSG_HOST = 20;
/** Thread of the host protocols to lcore: copy the frame at M_L3 of M_HOME's memory and send it on port M_PORT. */
export const MSG_TRANSMIT = 21;
/** Thread of a socket to the thread of the host protocols: the socket joins or leaves a group, see group-request.ts. */
export const MSG_GROUP = 22;

/**
 * lcore to lcore: a segment of no connection of the sender, M_LENGTH bytes of packet from M_L3 on, the TCP header at M_L4.
 * M_REASON: lcores that have seen it. The reader gives the frame back.
 */
export const MSG_TCP_SEGMENT = 23;

/** Thread that hears of ICMP to lcore: an error about a segment, see stream/tcp-report.ts. */
export const MSG_TCP_ICMP = 24;

/** Any thread to the first lcore: M_SOCKET is to be closed when no TCP connection has its port. */
export const MSG_TCP_DRAIN = 25;

export const MESSAGE_WORDS = 16;
/** Frames one FREE or LEND carries. */
export const FRAMES_PER_MESSAGE = 14;

/** Why the host protocols get a frame: it came for them; it came for a UDP port that nobody has; a socket sends it, or
 * sends it and is to hear it, too: a group's or a broadcast datagram. */
export const HOST_INPUT = 1;
export const HOST_NO_PORT = 2;
export const HOST_SEND = 3;
export const HOST_SEND_LOOP = 4;

export const M_KIND = 0;
export const M_REASON = 1;
/** Count of frames in FREE and LEND, socket id in the others. */
export const M_SOCKET = 1;
export const M_COUNT = 1;
export const M_FRAMES = 2;
/** The socket's generation when the lcore looked it up: a reader drops what was meant for an earlier socket. */
export const M_GENERATION = 2;
/** Offset of the frame's first byte in its lcore's memory, and its length. */
export const M_FRAME = 3;
export const M_LENGTH = 4;
/** Offsets of the IP header, of the UDP header and of the payload in the lcore's memory. */
export const M_L3 = 5;
export const M_L4 = 6;
export const M_PAYLOAD = 7;
export const M_PAYLOAD_LENGTH = 8;
/** Port (queue) of the lcore on which it came. */
export const M_PORT = 9;
/** lcore in whose memory the frame is. */
export const M_HOME = 10;
/** Bytes charged to the receive buffer. */
export const M_CHARGE = 11;
/** Receive time: seconds and nanoseconds of CLOCK_REALTIME, both 0 where no stamp was asked for. */
export const M_SECONDS = 12;
export const M_NANOSECONDS = 13;
/** SO_RXQ_OVFL: datagrams the socket had lost when this one was queued, where it asked. */
export const M_DROPS = 14;
/** UDP_GRO: bytes of each datagram that the kernel has put together into this one, 0 where it is one. */
export const M_SEGMENT = 15;

/** MSG_SEND: destination address (four words, IPv4 mapped) and port. */
export const M_ADDRESS = 9;
export const M_DESTINATION_PORT = 13;
/** MSG_SEND, MSG_SENT: bytes of the socket's send buffer, 0 where it is not bounded. */
export const M_SEND_CHARGE = 14;

/**
 * MSG_ERROR: errno; origin, ICMP type and ICMP code, a byte each from the lowest on, a bit for a hard error, and bytes of control
 * messages behind the excerpt, in eights; ee_info; port and, in the upper half, bytes of the excerpt, which begins at M_FRAME (-1 for none). The address the datagram was sent to is at
 * M_ADDRESS, who reported it at M_OFFENDER and M_OFFENDER_REST.
 */
export const M_ERRNO = 4;
export const M_ORIGIN = 5;
export const M_INFO = 6;
export const M_ERROR_PORT = 7;
export const M_OFFENDER = 8; // 1 word
export const M_OFFENDER_REST = 13; // 3 words

/** MSG_GROUP: GROUP_..., 4 or 6, mode and count of a filter; the group and the source, four words each. */
export const M_GROUP_OP = 3;
export const M_GROUP_FAMILY = 4;
export const M_FILTER = 5;
export const M_GROUP = 6;
export const M_GROUP_SOURCE = 10;

/** Writes a MSG_DELIVER of a datagram without stamp; where in the frame it lies is the caller's to add. */
export function writeDelivery(
  words: Int32Array,
  at: number,
  socket: number,
  generation: number,
  home: number,
  frame: number,
  charge: number,
): void {
  words[at + M_KIND] = MSG_DELIVER;
  words[at + M_SOCKET] = socket;
  words[at + M_GENERATION] = generation;
  words[at + M_FRAME] = frame;
  words[at + M_HOME] = home;
  words[at + M_CHARGE] = charge;
  words[at + M_SECONDS] = 0;
  words[at + M_NANOSECONDS] = 0;
  words[at + M_DROPS] = 0;
  words[at + M_SEGMENT] = 0;
}
