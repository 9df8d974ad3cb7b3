"""How gRPC reads sockets is chosen before it is loaded, by names that this release of it knows."""

from __future__ import annotations

import os
import subprocess
import sys

from aigateway_launcher import grpc_polling

_CALL = """
import sys
from aigateway_launcher import cli, grpc_polling

print("grpc" in sys.modules)
grpc_polling.read_where_it_waits()
import grpc

grpc.insecure_channel("127.0.0.1:1").close()
"""


def test_it_is_chosen_early_enough_by_names_that_grpc_knows() -> None:
    ours = _run()
    assert ours.stdout == "False\n"
    assert "Unknown experiment" not in ours.stderr


def test_the_environment_may_choose_otherwise() -> None:
    theirs = _run(**{grpc_polling.VARIABLE: "nothing_that_there_is"})
    assert "Unknown experiment: nothing_that_there_is" in theirs.stderr


def _run(**environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if name != grpc_polling.VARIABLE}
    return subprocess.run(
        [sys.executable, "-c", _CALL], env=kept | environment, capture_output=True, text=True, check=True
    )
