"""Many callers at once who know what they must be answered, and write down what they were.

A caller asks the echoing stand-in (`support.chaos.echo`) through the gateway and judges each answer by its own request.
Bounded in number and time; it never retries, so that one call is one line of the record.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import aiohttp

from support.chaos.echo import EMBEDDING_MODEL, MODELS, expected, prompt, vector

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

HANG_SECONDS = 40.0
"""A call that has not ended by then hangs: longer than anything that the load asks for, and than a restart takes."""
_CHAT = "/v1/chat/completions"

Kind = Literal["unary", "stream", "embedding", "error", "leave"]
Outcome = Literal["answered", "refused", "cut", "unreachable", "left", "wrong", "hung"]
"""Answered whole and right; an HTTP error; begun and ended by an error; no connection; left by the caller itself;
something else in the guise of success; no end at all."""
BROKEN: tuple[Outcome, ...] = ("wrong", "hung")
"""What no fault may ever lead to."""


@dataclass
class Call:
    """One call, as its caller saw it."""

    request_id: str
    kind: Kind
    model: str
    began: float
    ended: float = 0.0
    outcome: Outcome = "hung"
    detail: str = ""

    def end(self, outcome: Outcome, detail: str = "") -> None:
        self.outcome, self.detail, self.ended = outcome, detail, time.monotonic()


@dataclass(frozen=True)
class Mix:
    """What is asked, and how often of each."""

    models: Sequence[str] = (MODELS["openai"],)
    kinds: Sequence[Kind] = ("unary", "stream")
    weights: Sequence[float] = (1, 1)
    words: int = 12
    gap_ms: int = 40
    """Between the words of a stream."""


@dataclass
class Load:
    """Callers of one gateway; of several edges they call one that says that it is ready, as a balancer would."""

    urls: Sequence[str]
    name: str
    mix: Mix = Mix()
    seed: int = 0
    key: str | None = None
    calls: list[Call] = field(default_factory=list)
    _made: int = 0
    _url: str = ""
    """Which of `urls` is called."""
    _stopped: bool = False

    async def run(self, callers: int, seconds: float, *, at_most: int = 100_000, rate: float | None = None) -> None:
        """Call with `callers` at once until `seconds` have passed, `at_most` calls in all, `rate` a second."""
        headers = {"authorization": f"Bearer {self.key}"} if self.key else {}
        end = time.monotonic() + seconds
        async with aiohttp.ClientSession(
            headers=headers, connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(None)
        ) as session:
            self._url = self.urls[0]
            balancing = asyncio.create_task(self._balance(session))
            chances = (random.Random(f"{self.seed}-{number}") for number in range(callers))
            pause = callers / rate if rate else 0.0
            await asyncio.gather(*(self._caller(session, chance, end, at_most, pause) for chance in chances))
            balancing.cancel()
            await asyncio.gather(balancing, return_exceptions=True)

    def stop(self) -> None:
        """Make no more calls; those under way end as they would."""
        self._stopped = True

    def counts(self) -> Counter[Outcome]:
        return Counter(call.outcome for call in self.calls)

    def answered(self) -> list[Call]:
        return [call for call in self.calls if call.outcome == "answered"]

    def broken(self) -> list[Call]:
        """Calls that ended as no call may."""
        return [call for call in self.calls if call.outcome in BROKEN]

    async def _balance(self, session: aiohttp.ClientSession) -> None:
        """Call the first edge that is ready."""
        while len(self.urls) > 1:
            for url in self.urls:
                try:
                    async with session.get(f"{url}/ready") as answer:
                        if answer.status == 200:
                            self._url = url
                            break
                except aiohttp.ClientError:
                    continue
            await asyncio.sleep(0.05)

    async def _caller(
        self, session: aiohttp.ClientSession, chance: random.Random, end: float, at_most: int, pause: float
    ) -> None:
        if pause:
            await asyncio.sleep(chance.uniform(0, pause))
        while (now := time.monotonic()) < end and self._made < at_most and not self._stopped:
            self._made += 1
            kind = chance.choices(self.mix.kinds, self.mix.weights)[0]
            call = Call(f"{self.name}-{self._made}", kind, chance.choice(self.mix.models), now)
            self.calls.append(call)
            await self._call(session, call)
            # What is being restarted refuses at once: callers come back, but not in a busy loop.
            failed = call.outcome in ("refused", "unreachable", "cut")
            rest = max(pause - (time.monotonic() - now), 0.1 if failed else 0.0)
            if rest:
                await asyncio.sleep(rest)

    async def _call(self, session: aiohttp.ClientSession, call: Call) -> None:
        try:
            async with asyncio.timeout(HANG_SECONDS):
                path, body = self._request(call)
                headers = {"x-request-id": call.request_id}
                async with session.post(self._url + path, json=body, headers=headers) as response:
                    await self._judge(call, response)
        except aiohttp.ClientConnectorError as error:
            call.end("unreachable", type(error).__name__)
        except (aiohttp.ClientError, ConnectionError) as error:
            call.end("cut", type(error).__name__)
        except TimeoutError:
            call.end("hung", f"no end within {HANG_SECONDS:g} seconds")

    def _request(self, call: Call) -> tuple[str, dict[str, Any]]:
        if call.kind == "embedding":
            return "/v1/embeddings", {"model": EMBEDDING_MODEL, "input": call.request_id}
        gap = self.mix.gap_ms if call.kind in ("stream", "leave") else 0
        asked = prompt(call.request_id, self.mix.words, gap)
        model = "nobody/nothing" if call.kind == "error" else call.model
        body = {"model": model, "messages": [{"role": "user", "content": asked}]}
        return _CHAT, body | {"stream": call.kind in ("stream", "leave")}

    async def _judge(self, call: Call, response: aiohttp.ClientResponse) -> None:
        if response.headers.get("x-request-id") != call.request_id:
            call.end("wrong", f"the answer of {response.headers.get('x-request-id')!r}, {response.status}")
        elif response.status != 200:
            error = (await response.json()).get("error", {})
            clear = bool(error.get("message")) and bool(error.get("type"))
            call.end("refused" if clear else "wrong", f"{response.status} {error.get('code')}")
        elif call.kind == "leave":
            await response.content.readany()
            response.close()
            call.end("left")
        elif call.kind == "stream":
            await self._judge_stream(call, response.content)
        else:
            body = await response.json()
            right = _content(call, body) == self._expected(call)
            call.end("answered" if right else "wrong", "" if right else json.dumps(body)[:200])

    async def _judge_stream(self, call: Call, lines: Iterable[bytes] | aiohttp.StreamReader) -> None:
        text, error, done = "", "", False
        async for line in lines:  # type: ignore[union-attr] # a StreamReader iterates over lines
            data = line.strip().removeprefix(b"data: ")
            if data == b"[DONE]":
                done = True
            elif data.startswith(b"{"):
                chunk = json.loads(data)
                error = error or str(chunk.get("error", {}).get("code", ""))
                text += "".join(choice["delta"].get("content") or "" for choice in chunk.get("choices", ()))
        if done and not error and text == self._expected(call):
            call.end("answered")
        elif error and not done:
            call.end("cut", error)
        else:
            call.end("wrong", f"done={done} error={error!r} text={text[:80]!r}")

    def _expected(self, call: Call) -> str | list[float]:
        return vector(call.request_id) if call.kind == "embedding" else expected(call.request_id, self.mix.words)


def _content(call: Call, body: dict[str, Any]) -> object:
    try:
        if call.kind == "embedding":
            return [round(value * 256) / 256 for value in body["data"][0]["embedding"]]
        return body["choices"][0]["message"]["content"]
    except (KeyError, IndexError, TypeError):
        return None
