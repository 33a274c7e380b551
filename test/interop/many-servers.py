"""A server of the kernel's for many connections: ADDRESS PORT COUNT. Prints "listening"; once COUNT are there, "open"; sends
back the first message of each and closes it, and when all have closed, "closed"."""
import resource, select, socket, sys

address, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
room = count + 100
resource.setrlimit(resource.RLIMIT_NOFILE, (room, max(room, resource.getrlimit(resource.RLIMIT_NOFILE)[1])))
listener = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind((address, port))
listener.listen(1024)
print("listening", flush=True)
sockets = {}
poll = select.epoll()
while len(sockets) < count:
    s, _ = listener.accept()
    sockets[s.fileno()] = s
    poll.register(s, select.EPOLLIN)
print("open", flush=True)
while sockets:
    for fd, _ in poll.poll():
        s = sockets.pop(fd)
        poll.unregister(fd)
        s.sendall(s.recv(100))
        s.shutdown(socket.SHUT_WR)
        if s.recv(100) != b"":
            sys.exit("more than its end")
        s.close()
print("closed", flush=True)
