"""A box with Ollama on it, on loopback: it says which models it has in memory, and answers calls with its own name.

The shapes are those of https://docs.ollama.com/api/chat, https://docs.ollama.com/api/tags and
https://docs.ollama.com/api/ps.
"""

from __future__ import annotations

import asyncio
import json
import threading
from typing import Any, Self

from support.replay import Answer, Sent, Upstream

MODEL = "llama3.2"
_FULL = f"{MODEL}:latest"
_DETAILS = {
    "parent_model": "",
    "format": "gguf",
    "family": "llama",
    "families": ["llama"],
    "parameter_size": "3.2B",
    "quantization_level": "Q4_K_M",
}
_LISTED = {"name": _FULL, "model": _FULL, "size": 2019393189, "digest": "a80c4f17acd55265", "details": _DETAILS}
_LINES = {"content-type": "application/x-ndjson"}


class Box:
    """A context manager; `stop` takes it off the network before the end."""

    def __init__(self, name: str, *, loaded: bool = False) -> None:
        self.name = name
        self.loaded = loaded
        """Whether the model is in memory, from now on."""
        self.holding = False
        """Whether streams that begin now go on until their caller leaves."""
        self.held = 0
        """How many such streams have begun."""
        self.looks = 0
        """How often it was asked what it has in memory."""
        self._upstream = Upstream(script=self._answer)
        self._looked = threading.Condition()
        self._up = False

    def __enter__(self) -> Self:
        self._upstream.__enter__()
        self._up = True
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        return self._upstream.url

    def stop(self) -> None:
        """Be gone: whoever is connected is cut off, and nobody connects any more."""
        if self._up:
            self._up = False
            self._upstream.__exit__()

    async def asked(self, times: int, seconds: float = 30) -> None:
        """Returns once it was asked so many times what it has in memory."""
        enough = await asyncio.to_thread(self._wait, times, seconds)
        assert enough, f"{self.name} was asked {self.looks} times and not {times}"

    def _wait(self, times: int, seconds: float) -> bool:
        with self._looked:
            return self._looked.wait_for(lambda: self.looks >= times, seconds)

    def _answer(self, sent: Sent) -> Answer:
        match sent.path:
            case "/api/tags":
                return Answer.of({"models": [_LISTED | {"modified_at": "2026-01-01T00:00:00Z"}]})
            case "/api/ps":
                with self._looked:
                    self.looks += 1
                    self._looked.notify_all()
                return Answer.of({"models": [self._running()] if self.loaded else []})
            case "/api/chat":
                return self._chat(sent.json())
        raise AssertionError(sent.path)

    def _running(self) -> dict[str, Any]:
        return _LISTED | {"expires_at": "2038-01-01T00:00:00Z", "size_vram": 2019393189, "context_length": 4096}

    def _chat(self, request: dict[str, Any]) -> Answer:
        assert request["model"] == MODEL
        said = {"model": MODEL, "created_at": "2026-01-01T00:00:00Z"}
        word = {"role": "assistant", "content": self.name}
        end = {"done": True, "done_reason": "stop", "total_duration": 3, "prompt_eval_count": 1, "eval_count": 1}
        if not request["stream"]:
            return Answer.of(said | {"message": word} | end)
        lines = [said | {"message": word, "done": False}]
        if self.holding:
            self.held += 1
        else:
            lines.append(said | {"message": word | {"content": ""}} | end)
        return Answer(headers=_LINES, pieces=[json.dumps(line).encode() + b"\n" for line in lines], hold=self.holding)
