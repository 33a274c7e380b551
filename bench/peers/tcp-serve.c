/*
 * A server on kernel TCP sockets, one thread, epoll: tcp-serve PORT echo|once|greet|source|sink
 *
 *   echo    sends back what comes
 *   once    sends back what comes first, and closes
 *   greet   closes each connection when it is accepted
 *   source  sends as fast as it can
 *   sink    reads as fast as it can
 *
 * Prints a line when it serves.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define EVENTS 256
#define BYTES 65536

enum way { ECHO, ONCE, GREET, SOURCE, SINK };
static const char *names[] = { "echo", "once", "greet", "source", "sink" };

static char buffer[BYTES];
static enum way way;

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static void watch(int epoll, int fd, unsigned events)
{
	struct epoll_event event = { .events = events, .data.fd = fd };
	if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) < 0)
		die("epoll_ctl");
}

static void accept_all(int epoll, int listener)
{
	for (;;) {
		int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
		if (fd < 0)
			return;
		int one = 1;
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
		if (way == GREET)
			close(fd);
		else
			watch(epoll, fd, way == SOURCE ? EPOLLOUT : EPOLLIN);
	}
}

static void serve(int fd)
{
	if (way == SOURCE) {
		if (send(fd, buffer, BYTES, MSG_NOSIGNAL) < 0 && errno != EAGAIN)
			close(fd);
		return;
	}
	ssize_t n = recv(fd, buffer, BYTES, 0);
	if (n < 0 && errno == EAGAIN)
		return;
	if (n <= 0) {
		close(fd);
		return;
	}
	/* Responses are small: there is room, or the load is wrong. */
	if ((way == ECHO || way == ONCE) && send(fd, buffer, n, MSG_NOSIGNAL) != n && errno == EAGAIN)
		die("send");
	if (way == ONCE)
		close(fd);
}

int main(int argc, char **argv)
{
	if (argc != 3)
		return fprintf(stderr, "usage: %s PORT echo|once|greet|source|sink\n", argv[0]), 2;
	while (strcmp(names[way], argv[2]) != 0)
		if (++way > SINK)
			return fprintf(stderr, "%s: no such way\n", argv[2]), 2;
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	int one = 1;
	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	/* Refused where the kernel has no cubic: then it is the namespace's. */
	setsockopt(listener, IPPROTO_TCP, TCP_CONGESTION, "cubic", 5);
	struct sockaddr_in here = { .sin_family = AF_INET, .sin_port = htons(atoi(argv[1])) };
	if (bind(listener, (struct sockaddr *)&here, sizeof(here)) < 0 || listen(listener, 4096) < 0)
		die("listen");
	int epoll = epoll_create1(0);
	watch(epoll, listener, EPOLLIN);
	printf("ready\n");
	fflush(stdout);
	struct epoll_event events[EVENTS];
	for (;;) {
		int n = epoll_wait(epoll, events, EVENTS, -1);
		for (int i = 0; i < n; i++)
			if (events[i].data.fd == listener)
				accept_all(epoll, listener);
			else
				serve(events[i].data.fd);
	}
}
