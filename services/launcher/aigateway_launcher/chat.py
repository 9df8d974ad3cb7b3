"""`aigateway chat`: one question, or a conversation, through a running gateway."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from rich.console import Console

from aigateway_launcher.http_client import checked, events, fail, gateway

if TYPE_CHECKING:
    import httpx


def run(prompt: str | None, *, model: str | None, system: str | None, url: str, key: str | None, as_json: bool) -> None:
    """Ask `prompt`, or what standard input holds, or go on asking at a terminal."""
    history: list[dict[str, Any]] = [{"role": "system", "content": system}] if system else []
    if prompt is None and not sys.stdin.isatty():
        prompt = sys.stdin.read()
    with gateway(url, key) as client:
        model = model or _first_model(client)
        if prompt is not None:
            _ask(client, model, history, prompt, as_json=as_json)
            return
        Console(stderr=True).print(f"[dim]{model}; an empty line ends the conversation[/dim]")
        while line := _line():
            _ask(client, model, history, line, as_json=as_json)


def _first_model(client: httpx.Client) -> str:
    listing = checked(client.get("/v1/models"))["data"]
    if not listing:
        fail("the gateway lists no models; name one with --model")
    return str(listing[0]["id"])


def _line() -> str:
    try:
        return input("> ").strip()
    except EOFError:
        return ""


def _ask(client: httpx.Client, model: str, history: list[dict[str, Any]], prompt: str, *, as_json: bool) -> None:
    history.append({"role": "user", "content": prompt})
    body = {"model": model, "messages": history}
    if as_json:
        print(json.dumps(checked(client.post("/v1/chat/completions", json=body)), indent=2))
        return
    answer = ""
    with client.stream("POST", "/v1/chat/completions", json=body | {"stream": True}) as response:
        for chunk in events(response):
            for choice in chunk["choices"]:
                text = choice["delta"].get("content") or ""
                answer += text
                print(text, end="", flush=True)
    print()
    history.append({"role": "assistant", "content": answer})
