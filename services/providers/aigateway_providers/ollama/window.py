"""Whether Ollama cut a prompt, as far as its answer shows: it cuts in silence, and answers as if it had read all.

Not for limiting prompts: nobody but the model's own tokenizer counts them.

The window is what the call or the configuration asks for (`num_ctx`), else what the model was loaded with, else a
default that depends on the server's memory (https://docs.ollama.com/context-length). Of a prompt that does not fit,
whole messages are left out, the oldest first (`chatPrompt` in
https://github.com/ollama/ollama/blob/main/server/prompt.go); of one that is too long even so, the first `num_keep`
tokens stay, and the last ones up to half of the window (`contextShiftPromptLimit` in
https://github.com/ollama/ollama/blob/main/llm/llama_server.go, and https://github.com/ollama/ollama/issues/17427).
Older servers filled the window instead. A count above the window means that the server knows no such limit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from aigateway.v1 import chat_pb2

_DEFAULTS: Final = (4096, 32_768, 262_144)
"""What Ollama takes by itself, with less than 24 GiB, less than 48 GiB and more than that of graphics memory."""
_MOST_CHARACTERS: Final = 6
"""Characters that tokens hold on average at most; plain English has some four."""
_MANY_CHARACTERS: Final = 5
"""Characters a counted token from which on it is likely that not all were counted."""


@dataclass(frozen=True, slots=True)
class Window:
    """The context window of one call, and the prompt that had to fit in it."""

    num_ctx: int | None = None
    """Tokens it has; None when only Ollama knows."""
    num_keep: int = 4
    """Tokens that stay at the beginning of a prompt that is cut; 4 is Ollama's default."""
    characters: int = 0
    """Characters of the messages' text; the rest of the prompt is not counted."""

    def notes(self, counted: int | None) -> list[chat_pb2.TranslationNote]:
        """The report, when a prompt of which `counted` tokens were read was likely cut."""
        detail = self._cut(counted) if counted else ""
        if not detail:
            return []
        action = chat_pb2.TRANSLATION_ACTION_CLAMPED
        return [chat_pb2.TranslationNote(field="messages", action=action, detail=f"{detail}, raise `num_ctx`")]

    def _cut(self, counted: int) -> str:
        if self.num_ctx is None:
            for default in _DEFAULTS:
                if counted in self._halves(default) and self.characters > _MANY_CHARACTERS * counted:
                    return _half(counted, default)
            return ""
        if counted > self.num_ctx:
            return ""
        if counted == self.num_ctx:
            return f"the prompt fills the context window of {counted} tokens, what is over was cut"
        if counted in self._halves(self.num_ctx):
            return _half(counted, self.num_ctx)
        if self.characters > _MOST_CHARACTERS * self.num_ctx:
            return f"likely cut, {self.characters} characters hardly fit a context window of {self.num_ctx} tokens"
        return ""

    def _halves(self, num_ctx: int) -> frozenset[int]:
        """What may be left of a prompt: many models put one more token before it, which stays as well."""
        return frozenset(num_ctx - max((num_ctx - keep) // 2, 1) for keep in (self.num_keep, self.num_keep + 1))


def _half(counted: int, num_ctx: int) -> str:
    return f"likely cut, {counted} tokens are what a context window of {num_ctx} leaves of a longer prompt"
