"""Reaching addresses that somebody else chose; what a fetch through it does is tested where media are fetched."""

from __future__ import annotations

import socket
import ssl

import pytest
from aigateway_common.web import guarded_socket, ssl_context


def test_connections_over_https_check_the_servers_certificate_and_name() -> None:
    context = ssl_context()
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert context.cert_store_stats()["x509_ca"] > 0


@pytest.mark.parametrize("address", ["127.0.0.1", "169.254.169.254", "::ffff:127.0.0.1"])
def test_the_socket_itself_is_refused_for_an_address_inside(address: str) -> None:
    with pytest.raises(OSError, match=r"^$"):
        guarded_socket((socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 80)), internal=False)
