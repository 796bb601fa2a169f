"""The listening socket, and room for connections."""

import errno
import resource
import socket

from slipway.errors import DeployError
from slipway.log import get_logger

_OTHER_FILES = 128
"""What the process has open besides its connections, roughly."""
BACKLOG = 2048
"""Clients that may wait to be let in."""


def bind(host: str, port: int) -> socket.socket:
    """A socket bound to an address; it does not listen yet, so nobody connects before the model is there.

    Raises:
        DeployError: the port is taken, or the address is none of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # which asyncio asks for before it sets TCP_NODELAY
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise _refusal(host, port, error) from None
    return listener


def listen(listener: socket.socket) -> None:
    """Let clients connect.

    Raises:
        DeployError: another process, which bound the same port at the same time, was first to listen.
    """
    try:
        listener.listen(BACKLOG)
    except OSError as error:
        host, port = listener.getsockname()[:2]
        raise _refusal(host, port, error) from None


def raise_file_limit(num_connections: int) -> None:
    """Let the process have so many connections, as far as its user may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = num_connections + _OTHER_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
        if allowed < wanted:
            get_logger(__name__).warning("few_files", allowed=allowed, wanted=wanted, option="--max-connections")


def _refusal(host: str, port: int, error: OSError) -> DeployError:
    if error.errno in (errno.EADDRINUSE, errno.EACCES):
        what_to_do = "Choose another port with --port, or 0 for a free one."
    else:
        what_to_do = "Choose an address of this machine with --host, such as 127.0.0.1, or 0.0.0.0 for all."
    return DeployError(f"Cannot listen on {host}, port {port}: {error.strerror}. {what_to_do}")
