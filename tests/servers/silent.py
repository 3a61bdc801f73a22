"""Ports at which no server answers; context managers that give the port."""

import contextlib
import socket
from typing import Iterator

from servers.process import HOST


@contextlib.contextmanager
def closed_port() -> Iterator[int]:
    """A port that refuses connections, and that nobody else can take meanwhile."""
    with socket.socket() as bound:
        bound.bind((HOST, 0))  # and never listens
        yield bound.getsockname()[1]


@contextlib.contextmanager
def silent_port() -> Iterator[int]:
    """A port that takes connections and requests, and never answers."""
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        # The kernel completes up to so many connections without an accept().
        listener.listen(128)
        yield listener.getsockname()[1]


@contextlib.contextmanager
def unreachable_port() -> Iterator[int]:
    """A port at which even connecting hangs, as with a firewall that drops packets.

    Linux drops the packets of new connections while the queue of those that wait for
    accept() is full.
    """
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind((HOST, 0))
        listener.listen(0)
        with contextlib.suppress(socket.timeout):
            while True:
                client = stack.enter_context(socket.socket())
                client.settimeout(0.2)
                client.connect(listener.getsockname())
        yield listener.getsockname()[1]
