"""The answer to a call that there is no room for, made before anything of it is read.

Whoever serves the application knows when the process has too much to do. It says so of a request in `scope["state"]`,
and then the route refuses in its own dialect; or it sends a `Refused` at once, for refusing must cost far less than
answering. Not for limits of callers, which the router keeps.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from aigateway_common.errors import GatewayError
from aigateway_common.load import FULL

from aigateway_edge import errors

if TYPE_CHECKING:
    from starlette.types import Scope

    from aigateway_edge.errors import Headers, Shape


class Refused(NamedTuple):
    """A whole answer."""

    status: int
    headers: Headers
    body: bytes


def check(scope: Scope) -> None:
    """Raise GatewayError OVERLOADED where there is no room for this request."""
    if scope.get("state", {}).get(FULL):
        raise overloaded()


def overloaded() -> GatewayError:
    """There is no room."""
    return GatewayError("OVERLOADED", "the gateway has too many calls under way; try again", retry_after=1)


def refused(shape: Shape) -> Refused:
    """The answer in a dialect."""
    error = overloaded()
    request_id = "req_" + os.urandom(16).hex()
    body = shape.body(error, request_id)
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"x-request-id", request_id.encode()),
        *errors.headers(error, anthropic=shape.anthropic),
    ]
    if shape.request_id_header:
        headers.append((shape.request_id_header, request_id.encode()))
    return Refused(shape.status(error), headers, body)
