"""The HTTP socket, which the parent of workers opens for them; what accepts on it is `http_server`'s business."""

from __future__ import annotations

import errno
import socket
from typing import Final

from aigateway_common.settings import ConfigurationError, Problem

_UNACKNOWLEDGED_SECONDS: Final = 60
"""A client that takes no byte for so long, or has vanished, is disconnected by the system, where it can do that."""


def listen(host: str, port: int) -> socket.socket:
    """A listening socket.

    Raises:
        ConfigurationError: The address cannot be had; says why and what to do.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # connections inherit it
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNACKNOWLEDGED_SECONDS * 1000)
    try:
        listener.bind((host, port))
        listener.listen(2048)  # where another is bound that does not listen yet, the port is refused only here
    except OSError as error:
        listener.close()
        hint = "; another program has it: choose another with --port" if error.errno == errno.EADDRINUSE else ""
        raise ConfigurationError([Problem(f"{host}:{port}", f"cannot listen: {error.strerror}{hint}")]) from error
    listener.setblocking(False)
    return listener
