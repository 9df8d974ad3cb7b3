"""How the commands talk to a running gateway: its own HTTP API, errors made readable."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Any, NoReturn

import httpx
import orjson

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

TIMEOUT = httpx.Timeout(600, connect=5)


@contextlib.contextmanager
def gateway(url: str, key: str | None) -> Generator[httpx.Client, None, None]:
    """A client of the gateway at `url`; an unreachable gateway ends the command with a hint."""
    headers = {"authorization": f"Bearer {key}"} if key else {}
    with httpx.Client(base_url=url, headers=headers, timeout=TIMEOUT) as client:
        try:
            yield client
        except httpx.TransportError as error:
            fail(f"{url} cannot be reached ({type(error).__name__}); start the gateway with `aigateway up`")


def checked(response: httpx.Response) -> Any:
    """The JSON of a good answer; a bad one ends the command with the gateway's own message."""
    if response.status_code >= 400:
        refuse(response)
    return orjson.loads(response.content)


def events(response: httpx.Response) -> Iterator[dict[str, Any]]:
    """The chunks of a streamed answer."""
    if response.status_code >= 400:
        response.read()
        refuse(response)
    for line in response.iter_lines():
        data = line.removeprefix("data: ")
        if data in (line, "[DONE]"):
            continue
        chunk = orjson.loads(data)
        if "error" in chunk:
            fail(str(chunk["error"].get("message")))
        yield chunk


def refuse(response: httpx.Response) -> NoReturn:
    """End the command with the message of an error answer."""
    try:
        message = orjson.loads(response.content)["error"]["message"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        message = response.text[:200]
    fail(f"{response.status_code}: {message}")


def fail(message: str) -> NoReturn:
    """Print `message` and end with 1."""
    print(message, file=sys.stderr)
    sys.exit(1)
