"""Which addresses may be reached."""

from __future__ import annotations

import pytest
from aigateway_common.addresses import is_allowed


@pytest.mark.parametrize(
    ("address", "public", "internal"),
    [
        ("8.8.8.8", True, True),
        ("2606:4700::1111", True, True),
        ("::ffff:8.8.8.8", True, True),
        ("64:ff9b::8.8.8.8", True, True),
        ("2002:808:808::1", True, True),
        ("127.0.0.1", False, True),
        ("10.1.2.3", False, True),
        ("::1", False, True),
        ("fd12::1", False, True),
        ("::ffff:192.168.0.1", False, True),
        ("169.254.169.254", False, False),
        ("::ffff:169.254.169.254", False, False),
        ("100.100.100.200", False, False),
        ("168.63.129.16", False, False),
        ("fd00:ec2::254", False, False),
        ("fd20:ce::254", False, False),
        ("fe80::1", False, False),
        ("::1%lo", False, False),
        ("224.0.0.1", False, False),
        ("ff02::1", False, False),
        ("0.0.0.0", False, False),
        ("::", False, False),
        ("0177.0.0.1", False, False),
        ("example.com", False, False),
    ],
)
def test_public_addresses_are_open_internal_ones_by_setting_and_metadata_never(
    address: str, public: bool, internal: bool
) -> None:
    assert (is_allowed(address, internal=False), is_allowed(address, internal=True)) == (public, internal)
