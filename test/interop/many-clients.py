"""Many connections of the kernel's at once: ADDRESS PORT COUNT [ADDRESS PORT COUNT]...

Opens them a few at a time, prints "open", and at each line of its input goes on: a message of its own over each, which
must come back, "answered"; then they are closed, "closed".
"""
import resource, select, socket, sys

AT_ONCE = 64
arguments = sys.argv[1:]
targets = [(arguments[i], int(arguments[i + 1])) for i in range(0, len(arguments), 3) for _ in range(int(arguments[i + 2]))]
room = len(targets) + 100
resource.setrlimit(resource.RLIMIT_NOFILE, (room, max(room, resource.getrlimit(resource.RLIMIT_NOFILE)[1])))


def in_turn(begin, event, done):
    """Begins something on every connection, AT_ONCE at a time, and waits for `event` on each before the next."""
    poll = select.epoll()
    waiting, started = {}, 0
    while started < len(targets) or waiting:
        while started < len(targets) and len(waiting) < AT_ONCE:
            s = begin(started)
            waiting[s.fileno()] = started
            poll.register(s, event)
            started += 1
        for fd, _ in poll.poll():
            number = waiting.pop(fd)
            poll.unregister(fd)
            done(number)


sockets = []


def connect(number):
    address, port = targets[number]
    s = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
    s.setblocking(False)
    sockets.append(s)
    s.connect_ex((address, port))
    return s


def connected(number):
    error = sockets[number].getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if error:
        sys.exit(f"connection {number}: errno {error}")


def ask(number):
    sockets[number].send(b"message %d" % number)
    return sockets[number]


def answered(number):
    answer = sockets[number].recv(100)
    if answer != b"message %d" % number:
        sys.exit(f"connection {number}: {answer}")


def shut(number):
    sockets[number].shutdown(socket.SHUT_WR)
    return sockets[number]


def ended(number):
    if sockets[number].recv(100) != b"":
        sys.exit(f"connection {number}: more than its end")
    sockets[number].close()


for word, begin, event, done in [
    ("open", connect, select.EPOLLOUT, connected),
    ("answered", ask, select.EPOLLIN, answered),
    ("closed", shut, select.EPOLLIN, ended),
]:
    in_turn(begin, event, done)
    print(word, flush=True)
    if word != "closed":
        sys.stdin.readline()
