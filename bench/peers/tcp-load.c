/*
 * A load on kernel TCP sockets: tcp-load ADDRESS PORT rr|spin|crr|open|source|sink CONNECTIONS BYTES WARMUP_MS MEASURE_MS
 *
 *   rr      request and response of BYTES each, one after another on each connection; sleeps in epoll_wait(2)
 *   spin    the same on one connection, and never sleeps
 *   crr     a connection for each request and response, which the server closes
 *   open    connections which the server closes at once
 *   source  sends in pieces of BYTES as fast as it can; what the peer has acknowledged counts
 *   sink    reads in pieces of BYTES as fast as it can
 *
 * Prints a line "measuring" when the warm-up is over and a line of JSON at the end (LoadResult in bench/tcp-run.ts).
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define CONNECTIONS_MAX 4096
#define BYTES_MAX (1 << 20)
#define EVENTS 256
/* Round trips by 50 ns up to 100 ms; longer ones are in the last. */
#define BUCKET_NS 50
#define BUCKETS 2000000

enum mode { RR, SPIN, CRR, OPEN, SOURCE, SINK };
static const char *names[] = { "rr", "spin", "crr", "open", "source", "sink" };

struct connection {
	int fd;
	int connected;
	size_t got;
	uint64_t began;
};

static struct connection connections[CONNECTIONS_MAX];
static unsigned char out[BYTES_MAX], in[BYTES_MAX];
static uint32_t histogram[BUCKETS + 1];
static struct sockaddr_in server;
static enum mode mode;
static size_t bytes;
static int epoll, count_connections;
static uint64_t done, failed, bad, transferred, greatest;

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static uint64_t now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ull + t.tv_nsec;
}

static void record(uint64_t ns)
{
	uint64_t bucket = ns / BUCKET_NS;
	histogram[bucket < BUCKETS ? bucket : BUCKETS]++;
	if (ns > greatest)
		greatest = ns;
	done++;
}

static double percentile(double part)
{
	uint64_t total = 0, seen = 0;
	for (int i = 0; i <= BUCKETS; i++)
		total += histogram[i];
	for (int i = 0; i <= BUCKETS; i++) {
		seen += histogram[i];
		if (total > 0 && seen >= part * total)
			return i * BUCKET_NS / 1000.0;
	}
	return 0;
}

static void watch(struct connection *c, int operation, uint32_t events)
{
	struct epoll_event event = { .events = events, .data.ptr = c };
	if (epoll_ctl(epoll, operation, c->fd, &event) < 0)
		die("epoll_ctl");
}

static void begin(struct connection *c)
{
	c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	if (c->fd < 0)
		die("socket");
	int one = 1;
	setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	/* Refused where the kernel has no cubic: then it is the namespace's. */
	setsockopt(c->fd, IPPROTO_TCP, TCP_CONGESTION, "cubic", 5);
	c->connected = 0;
	c->got = 0;
	c->began = now_ns();
	if (connect(c->fd, (struct sockaddr *)&server, sizeof(server)) < 0 && errno != EINPROGRESS)
		die("connect");
	watch(c, EPOLL_CTL_ADD, EPOLLOUT);
}

static void again(struct connection *c)
{
	close(c->fd);
	begin(c);
}

static void request(struct connection *c)
{
	c->got = 0;
	if (mode == RR)
		c->began = now_ns();
	if (send(c->fd, out, bytes, MSG_NOSIGNAL) != (ssize_t)bytes)
		failed++;
}

static void opened(struct connection *c)
{
	int error = 0;
	socklen_t length = sizeof(error);
	getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &length);
	if (error != 0) {
		if (mode != CRR && mode != OPEN)
			errno = error, die("connect");
		failed++;
		again(c);
		return;
	}
	c->connected = 1;
	watch(c, EPOLL_CTL_MOD, mode == SOURCE ? EPOLLOUT : EPOLLIN);
	if (mode == RR || mode == CRR)
		request(c);
}

/* A connection of its own for each exchange: it ends when the server has closed. */
static void short_lived(struct connection *c)
{
	for (;;) {
		ssize_t n = recv(c->fd, in, sizeof(in), 0);
		if (n < 0 && errno == EAGAIN)
			return;
		if (n > 0) {
			c->got += n;
			if (mode == CRR && c->got == bytes && memcmp(in, out, bytes) != 0)
				bad++;
			/* The end is told when it comes, mostly with the data. */
			continue;
		}
		if (n == 0 && c->got == (mode == CRR ? bytes : 0))
			record(now_ns() - c->began);
		else
			failed++;
		again(c);
		return;
	}
}

static void answered(struct connection *c)
{
	ssize_t n = recv(c->fd, in, bytes - c->got, 0);
	if (n < 0 && errno == EAGAIN)
		return;
	if (n <= 0)
		die("recv");
	if (memcmp(in, out + c->got, n) != 0)
		bad++;
	c->got += n;
	if (c->got < bytes)
		return;
	record(now_ns() - c->began);
	request(c);
}

static uint64_t acknowledged(void)
{
	uint64_t sum = 0;
	for (int i = 0; i < count_connections; i++) {
		struct tcp_info info;
		socklen_t length = sizeof(info);
		memset(&info, 0, sizeof(info));
		if (getsockopt(connections[i].fd, IPPROTO_TCP, TCP_INFO, &info, &length) == 0)
			sum += info.tcpi_bytes_acked;
	}
	return sum;
}

static void push(struct connection *c)
{
	ssize_t n = send(c->fd, out, bytes, MSG_NOSIGNAL);
	if (n < 0 && errno != EAGAIN)
		die("send");
}

static void pull(struct connection *c)
{
	ssize_t n = recv(c->fd, in, bytes, 0);
	if (n < 0 && errno == EAGAIN)
		return;
	if (n <= 0)
		die("recv");
	transferred += n;
}

static void handle(struct connection *c)
{
	if (!c->connected)
		opened(c);
	else if (mode == RR)
		answered(c);
	else if (mode == SOURCE)
		push(c);
	else if (mode == SINK)
		pull(c);
	else
		short_lived(c);
}

static void run(uint64_t ms)
{
	uint64_t end = now_ns() + ms * 1000000;
	struct epoll_event events[EVENTS];
	do {
		int n = epoll_wait(epoll, events, EVENTS, 10);
		for (int i = 0; i < n; i++)
			handle(events[i].data.ptr);
	} while (now_ns() < end);
}

/* One connection, already open. */
static void spin(uint64_t ms)
{
	struct connection *c = &connections[0];
	uint64_t end = now_ns() + ms * 1000000, now = 0;
	while (now < end) {
		uint64_t start = now_ns();
		if (send(c->fd, out, bytes, MSG_NOSIGNAL) != (ssize_t)bytes)
			die("send");
		for (size_t got = 0; got < bytes;) {
			ssize_t n = recv(c->fd, in + got, bytes - got, MSG_DONTWAIT);
			if (n == 0 || (n < 0 && errno != EAGAIN))
				die("recv");
			got += n > 0 ? n : 0;
		}
		now = now_ns();
		if (memcmp(in, out, bytes) != 0)
			bad++;
		record(now - start);
	}
}

static void load(uint64_t ms)
{
	if (mode == SPIN)
		spin(ms);
	else
		run(ms);
}

int main(int argc, char **argv)
{
	if (argc != 8)
		return fprintf(stderr, "usage: %s ADDRESS PORT rr|spin|crr|open|source|sink CONNECTIONS BYTES WARMUP_MS MEASURE_MS\n",
			       argv[0]), 2;
	server.sin_family = AF_INET;
	server.sin_port = htons(atoi(argv[2]));
	if (inet_pton(AF_INET, argv[1], &server.sin_addr) != 1)
		return fprintf(stderr, "%s: no IPv4 address\n", argv[1]), 2;
	while (strcmp(names[mode], argv[3]) != 0)
		if (++mode > SINK)
			return fprintf(stderr, "%s: no such load\n", argv[3]), 2;
	count_connections = atoi(argv[4]);
	bytes = atoi(argv[5]);
	if (count_connections < 1 || count_connections > CONNECTIONS_MAX || bytes < 1 || bytes > BYTES_MAX)
		return fprintf(stderr, "too many or too few\n"), 2;
	for (size_t i = 0; i < bytes; i++)
		out[i] = i;
	epoll = epoll_create1(0);
	for (int i = 0; i < count_connections; i++)
		begin(&connections[i]);
	if (mode == SPIN)
		while (!connections[0].connected)
			run(1);
	load(atoi(argv[6]));
	memset(histogram, 0, sizeof(histogram));
	done = failed = bad = transferred = greatest = 0;
	uint64_t before = acknowledged(), start = now_ns();
	printf("measuring\n");
	fflush(stdout);
	load(atoi(argv[7]));
	double elapsed = (now_ns() - start) / 1e6;
	if (mode == SOURCE)
		transferred = acknowledged() - before;
	printf("{\"done\":%llu,\"failed\":%llu,\"bad\":%llu,\"bytes\":%llu,\"elapsedMs\":%.3f,"
	       "\"p50\":%.2f,\"p99\":%.2f,\"p999\":%.2f,\"max\":%.1f}\n",
	       (unsigned long long)done, (unsigned long long)failed, (unsigned long long)bad, (unsigned long long)transferred, elapsed,
	       percentile(0.5), percentile(0.99), percentile(0.999), greatest / 1000.0);
	fflush(stdout);
	/* Whoever started it reads its CPU time first. */
	pause();
	return 0;
}
