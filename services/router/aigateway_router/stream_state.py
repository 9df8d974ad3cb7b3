"""What the router knows of a stream under way: which choices are open, the tokens so far, how much was streamed. Pure.

It looks at each event once and keeps no text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aigateway.v1 import tokens_pb2
from aigateway_common.errors import GatewayError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aigateway.v1 import chat_pb2


class StreamState:
    """Follows one stream by its events."""

    __slots__ = (
        "_finished",
        "_open",
        "_started",
        "answered_model",
        "complete",
        "finish_reason",
        "has_final_usage",
        "reasoning",
        "text",
        "usage",
    )

    def __init__(self) -> None:
        self._open: set[int] = set()
        self._finished: set[int] = set()
        self._started = False
        self.complete = False
        """Every choice seen so far is finished, and there is one."""
        self.answered_model = ""
        self.finish_reason = ""
        """The provider's own word, of the first choice that finished."""
        self.usage: tokens_pb2.TokenUsage | None = None
        """The last known value of each token class."""
        self.has_final_usage = False
        """The `usage` event came, which is the last."""
        self.text = 0
        """Characters of text, refusals and arguments."""
        self.reasoning = 0
        """Characters of reasoning."""

    @property
    def has_content(self) -> bool:
        """Something of a choice has come: there is something to show."""
        return bool(self._open or self._finished)

    def follow(self, events: Sequence[chat_pb2.ChatEvent]) -> None:
        """Take note of `events`: a list, since a message's own field raises an error at its end for each loop over it.

        Raises:
            GatewayError: UPSTREAM_INVALID, when the stream does not begin with `start`.
        """
        for event in events:
            match event.WhichOneof("event"):
                case "text":
                    self.text += len(event.text)
                    self._touch(event.choice)
                case "reasoning":
                    self.reasoning += len(event.reasoning)
                    self._touch(event.choice)
                case "arguments":
                    self.text += len(event.arguments)
                    self._touch(event.choice)
                case "refusal":
                    self.text += len(event.refusal)
                    self._touch(event.choice)
                case "start":
                    self._start(event.start)
                case "finish":
                    self._finish(event)
                case "usage":
                    self._note(event.usage)
                    self.has_final_usage = True
                case "tool_call" | "redacted" | "native" | "audio":
                    self._touch(event.choice)
                case _:  # events that open no choice: state, raw events, extra fields
                    pass
            if not self._started:
                raise GatewayError("UPSTREAM_INVALID", "the provider's stream does not begin with its start")

    def check_ended(self) -> None:
        """Check that a stream which ended without an error is whole.

        Raises:
            GatewayError: UPSTREAM_INVALID, when it was cut short.
        """
        if not self.complete:
            raise GatewayError("UPSTREAM_INVALID", "the provider's stream ended before its answer was finished")

    def _start(self, start: chat_pb2.StreamStart) -> None:
        self._started = True
        self.answered_model = start.model
        if start.HasField("usage"):
            self._note(start.usage)

    def _touch(self, choice: int) -> None:
        if choice not in self._open and choice not in self._finished:
            self._open.add(choice)
            self.complete = False

    def _finish(self, event: chat_pb2.ChatEvent) -> None:
        self._open.discard(event.choice)
        self._finished.add(event.choice)
        self.complete = not self._open
        self.finish_reason = self.finish_reason or event.finish.native_reason

    def _note(self, usage: tokens_pb2.TokenUsage) -> None:
        """Later values replace earlier ones, class by class: providers report running totals, never differences."""
        if self.usage is None:
            self.usage = tokens_pb2.TokenUsage()
        self.usage.MergeFrom(usage)
