/*
 * The only C of this package: system calls that return -errno.
 *
 * Bun's cc() compiles it in memory at start (about 5 ms, no compiler or header needed), because reading errno in
 * a second foreign call can race the runtime, which makes system calls of its own in between.
 * Every function returns the call's result, or -errno; copy() returns nothing.
 */
extern long syscall(long number, ...);
extern int *__errno_location(void);
extern long sendto(int fd, const void *data, unsigned long length, int flags, const void *address, unsigned size);
extern void *memcpy(void *to, const void *from, unsigned long length);
extern long recvfrom(int fd, void *data, unsigned long length, int flags, void *address, unsigned *size);

enum { MSG_DONTWAIT = 0x40 };

/* -1 alone is libc's failure: fcntl(F_GETOWN) rightly gives the negative number of a process group. */
static long check(long result) { return result == -1 ? -(long)*__errno_location() : result; }

long sys3(long nr, long a, long b, long c) { return check(syscall(nr, a, b, c)); }

long sys6(long nr, long a, long b, long c, long d, long e, long f) { return check(syscall(nr, a, b, c, d, e, f)); }

/* The two calls of the AF_XDP packet path. One argument instead of seven: 360 ns a call against 450-490 by sys6. */
int xsk_send(int fd) { return (int)check(sendto(fd, 0, 0, MSG_DONTWAIT, 0, 0)); }

int xsk_receive(int fd) { return (int)check(recvfrom(fd, 0, 0, MSG_DONTWAIT, 0, 0)); }

/* A part of a buffer into frame memory: the language's own way would make a view of it for each. */
void copy(long to, long from, long length) { memcpy((void *)to, (const void *)from, (unsigned long)length); }
