/*
 * A UDP echo on a kernel socket, three ways: udp-echo PORT block|spin|batch
 *
 *   block  one datagram a call, sleeping in recvfrom(2)
 *   spin   one datagram a call, never sleeping; SO_BUSY_POLL drives the queue where the driver can
 *   batch  up to 64 datagrams a call: recvmmsg(2), sendmmsg(2), sleeping when there is none
 */
#define _GNU_SOURCE
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <errno.h>

#define BATCH 64
#define BYTES 2048
#define BUSY_POLL_USECS 50

static char buffers[BATCH][BYTES];

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static void echo_one(int fd, int flags)
{
	struct sockaddr_in from;
	for (;;) {
		socklen_t length = sizeof(from);
		ssize_t n = recvfrom(fd, buffers[0], BYTES, flags, (struct sockaddr *)&from, &length);
		if (n < 0) {
			if (errno == EAGAIN || errno == EINTR || errno == ECONNREFUSED)
				continue;
			die("recvfrom");
		}
		sendto(fd, buffers[0], n, 0, (struct sockaddr *)&from, length);
	}
}

static void echo_batches(int fd)
{
	static struct mmsghdr messages[BATCH];
	static struct sockaddr_in from[BATCH];
	static struct iovec parts[BATCH];
	for (int i = 0; i < BATCH; i++) {
		parts[i].iov_base = buffers[i];
		messages[i].msg_hdr.msg_iov = &parts[i];
		messages[i].msg_hdr.msg_iovlen = 1;
		messages[i].msg_hdr.msg_name = &from[i];
	}
	for (;;) {
		for (int i = 0; i < BATCH; i++) {
			parts[i].iov_len = BYTES;
			messages[i].msg_hdr.msg_namelen = sizeof(from[i]);
		}
		int n = recvmmsg(fd, messages, BATCH, MSG_WAITFORONE, NULL);
		if (n < 0) {
			if (errno == EINTR || errno == ECONNREFUSED)
				continue;
			die("recvmmsg");
		}
		for (int i = 0; i < n; i++)
			parts[i].iov_len = messages[i].msg_len;
		for (int sent = 0; sent < n;) {
			int k = sendmmsg(fd, messages + sent, n - sent, 0);
			/* A datagram that cannot be sent is lost, as UDP may. */
			sent += k > 0 ? k : 1;
		}
	}
}

int main(int argc, char **argv)
{
	if (argc != 3)
		return fprintf(stderr, "usage: %s PORT block|spin|batch\n", argv[0]), 2;
	int fd = socket(AF_INET, SOCK_DGRAM, 0);
	if (fd < 0)
		die("socket");
	struct sockaddr_in here = { .sin_family = AF_INET, .sin_port = htons(atoi(argv[1])) };
	if (bind(fd, (struct sockaddr *)&here, sizeof(here)) < 0)
		die("bind");
	if (strcmp(argv[2], "batch") == 0) {
		echo_batches(fd);
	} else if (strcmp(argv[2], "spin") == 0) {
		int usecs = BUSY_POLL_USECS;
		if (setsockopt(fd, SOL_SOCKET, SO_BUSY_POLL, &usecs, sizeof(usecs)) < 0)
			die("SO_BUSY_POLL");
		echo_one(fd, MSG_DONTWAIT);
	} else {
		echo_one(fd, 0);
	}
	return 0;
}
