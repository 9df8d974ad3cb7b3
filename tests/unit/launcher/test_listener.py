"""The HTTP socket and those who want the same port."""

from __future__ import annotations

import socket

import pytest
from aigateway_common.settings import ConfigurationError
from aigateway_launcher.listener import listen
from typing_extensions import override


def test_of_two_that_take_a_port_at_once_the_later_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two sockets may be bound to it until one of them listens."""
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", 0))

        class Later(socket.socket):
            @override
            def listen(self, *backlog: int) -> None:
                other.listen()
                super().listen(*backlog)

        port = other.getsockname()[1]
        monkeypatch.setattr(socket, "socket", Later)
        with pytest.raises(ConfigurationError, match="another program has it: choose another with --port"):
            listen("127.0.0.1", port)
