/**
 * Numbers of the calls of socket(7): include/linux/socket.h, include/uapi/asm-generic/{fcntl,poll,sockios,ioctls}.h of Linux
 * 6.18, the same on x86-64 and arm64 but where said. Socket options are in ../options.ts.
 */

export const AF_UNSPEC = 0;
export const AF_UNIX = 1;
export { AF_INET, AF_INET6 } from "../table.ts";
export const AF_PACKET = 17;

export const SOCK_STREAM = 1;
export const SOCK_DGRAM = 2;
export const SOCK_RAW = 3;
export const SOCK_SEQPACKET = 5;
/** The bits of socket(2)'s type that name it, and its flags. */
export const SOCK_TYPE_MASK = 0xf;
export const SOCK_NONBLOCK = 0x800;
export const SOCK_CLOEXEC = 0x80000;

export const SHUT_RD = 0;
export const SHUT_WR = 1;
export const SHUT_RDWR = 2;

export const MSG_OOB = 0x1;
export const MSG_PEEK = 0x2;
export const MSG_DONTROUTE = 0x4;
export const MSG_CTRUNC = 0x8;
export const MSG_TRUNC = 0x20;
export const MSG_DONTWAIT = 0x40;
export const MSG_EOR = 0x80;
export const MSG_WAITALL = 0x100;
export const MSG_CONFIRM = 0x800;
export const MSG_ERRQUEUE = 0x2000;
export const MSG_NOSIGNAL = 0x4000;
export const MSG_MORE = 0x8000;
export const MSG_CMSG_CLOEXEC = 0x40000000;

/** Control messages of level SOL_SOCKET. */
export const SCM_RIGHTS = 1;
export const SCM_CREDENTIALS = 2;
export const SCM_SECURITY = 3;
export const SCM_PIDFD = 4;

export const POLLIN = 0x1;
export const POLLPRI = 0x2;
export const POLLOUT = 0x4;
export const POLLERR = 0x8;
export const POLLHUP = 0x10;
export const POLLNVAL = 0x20;
export const POLLRDNORM = 0x40;
export const POLLRDBAND = 0x80;
export const POLLWRNORM = 0x100;
export const POLLWRBAND = 0x200;
export const POLLMSG = 0x400;
export const POLLRDHUP = 0x2000;

export const O_RDWR = 0x2;
export const O_NONBLOCK = 0x800;
export const O_ASYNC = 0x2000;
/** Bits that fcntl(F_SETFL) changes on a socket: O_APPEND, O_NONBLOCK, O_ASYNC, O_DIRECT (where it differs), O_NOATIME. */
export const O_APPEND = 0x400;
export const FD_CLOEXEC = 1;

export const F_DUPFD = 0;
export const F_GETFD = 1;
export const F_SETFD = 2;
export const F_GETFL = 3;
export const F_SETFL = 4;
export const F_SETOWN = 8;
export const F_GETOWN = 9;
export const F_SETSIG = 10;
export const F_GETSIG = 11;
export const F_SETOWN_EX = 15;
export const F_GETOWN_EX = 16;
export const F_DUPFD_CLOEXEC = 1030;

export const FIONREAD = 0x541b;
export const FIONBIO = 0x5421;
export const FIONCLEX = 0x5450;
export const FIOCLEX = 0x5451;
export const FIOASYNC = 0x5452;
/** SIOCINQ is FIONREAD, SIOCOUTQ is TIOCOUTQ. */
export const SIOCINQ = FIONREAD;
export const SIOCOUTQ = 0x5411;
/** Bytes written and not sent (linux/sockios.h). */
export const SIOCOUTQNSD = 0x894b;
export const FIOSETOWN = 0x8901;
export const SIOCSPGRP = 0x8902;
export const FIOGETOWN = 0x8903;
export const SIOCGPGRP = 0x8904;
export const SIOCATMARK = 0x8905;
/** The inode that a pathname socket is bound to. */
export const SIOCUNIXFILE = 0x89e0;
export const SIOCGSTAMP = 0x8906;
export const SIOCGSTAMPNS = 0x8907;

export const SIGPIPE = 13;
export const SIGURG = 23;
export const SIGIO = 29;

/** epoll_ctl(2): EPOLLIN and its kin are the POLL bits (include/uapi/linux/eventpoll.h). */
export const EPOLL_CTL_ADD = 1;
export const EPOLL_CTL_DEL = 2;
export const EPOLL_CTL_MOD = 3;
export const EPOLL_CLOEXEC = 0x80000;
export const EPOLLEXCLUSIVE = 1 << 28;
export const EPOLLWAKEUP = 1 << 29;
export const EPOLLONESHOT = 1 << 30;
export const EPOLLET = 1 << 31;

/** F_SETOWN_EX: struct f_owner_ex { int type; pid_t pid }. */
export const F_OWNER_TID = 0;
export const F_OWNER_PID = 1;
export const F_OWNER_PGRP = 2;

/** si_code of SIGIO and what stands in its place (include/uapi/asm-generic/siginfo.h). */
export const POLL_IN = 1;
export const POLL_OUT = 2;
export const POLL_MSG = 3;
export const POLL_ERR = 4;
export const POLL_PRI = 5;
export const POLL_HUP = 6;
