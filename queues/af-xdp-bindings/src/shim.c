/*
 * The only C of this package: system calls that return -errno.
 *
 * Bun's cc() compiles it in memory at start (about 5 ms, no compiler or header needed), because reading errno in
 * a second foreign call can race the runtime, which makes system calls of its own in between.
 * Every function returns the call's result, or -errno.
 */
extern long syscall(long number, ...);
extern int *__errno_location(void);

static long check(long result) { return result < 0 ? -(long)*__errno_location() : result; }

long sys3(long nr, long a, long b, long c) { return check(syscall(nr, a, b, c)); }

long sys6(long nr, long a, long b, long c, long d, long e, long f) { return check(syscall(nr, a, b, c, d, e, f)); }
