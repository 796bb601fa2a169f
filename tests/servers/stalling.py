"""A way to a server on which the first connections get no answer, as where packets are lost or a node has just died."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_CHUNK_BYTES = 65536


@contextmanager
def stall_first(port: int, *, num_stalled: int) -> Iterator[int]:
    """A port of the loopback address that leads to `port`, but for the first connections: those are taken and left waiting."""
    listener = socket.create_server(("127.0.0.1", 0))
    opened: list[socket.socket] = []

    def accept() -> None:
        with suppress(OSError):  # closed at the end
            while True:
                client, _ = listener.accept()
                opened.append(client)
                if len(opened) > num_stalled:
                    server = socket.create_connection(("127.0.0.1", port))
                    opened.append(server)
                    for source, target in ((client, server), (server, client)):
                        threading.Thread(target=_copy, args=(source, target), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for one in opened:
            one.close()


def _copy(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while content := source.recv(_CHUNK_BYTES):
            target.sendall(content)
        target.shutdown(socket.SHUT_WR)
