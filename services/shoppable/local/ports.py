"""Keeps a TCP port for a server that is to be restarted at the same address.

A bound socket that never listens holds the number: no other program is given it, while a server that sets
SO_REUSEADDR, as gRPC's and libevent's do, may bind beside it and listen. Only Linux lets it; elsewhere the number is
merely one that was free.
"""

from __future__ import annotations

import socket
import sys

LOOPBACK = "127.0.0.1"
UNIX = "unix:"  # how gRPC addresses of sockets in the file system begin


class ReservedPort:
    """A port on the loopback address that stays ours until `release`."""

    def __init__(self, *, number: int = 0) -> None:
        """Binds the port.

        Args:
            number: The port, or 0 for any free one.

        Raises:
            OSError: The port is taken.
        """
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._socket.bind((LOOPBACK, number))
        except OSError:
            self._socket.close()
            raise
        self.number: int = self._socket.getsockname()[1]
        if sys.platform != "linux":
            self._socket.close()

    @property
    def address(self) -> str:
        """The port with its host, as gRPC takes it."""
        return f"{LOOPBACK}:{self.number}"

    def release(self) -> None:
        """Gives the port up; may be called again."""
        self._socket.close()
