/** States of a socket and of its two directions (include/net/tcp_states.h, include/net/sock.h), as AF_UNIX uses them. */

/** Datagram sockets are closed always: whether they have a peer is all that matters. */
export const CLOSED = 0;
export const ESTABLISHED = 1;
export const LISTENING = 2;

/** RCV_SHUTDOWN, SEND_SHUTDOWN. */
export const SHUT_RECEIVE = 1;
export const SHUT_SEND = 2;
export const SHUT_BOTH = SHUT_RECEIVE | SHUT_SEND;
