"""The provider stand-in leaves nothing behind, whenever it is stopped."""

from __future__ import annotations

import gc
import socket

import pytest
from support.replay import Answer, Upstream


@pytest.mark.parametrize("connections", [1, 4])
def test_a_connection_that_comes_as_it_stops_is_closed(connections: int) -> None:
    """Warnings are errors here: a socket left open fails this test when it is collected."""
    for _ in range(25):
        clients = [socket.socket() for _ in range(connections)]
        with Upstream(Answer.of({})) as upstream:
            for client in clients:
                client.connect(("127.0.0.1", int(upstream.url.rpartition(":")[2])))
        for client in clients:
            client.close()
        gc.collect()
