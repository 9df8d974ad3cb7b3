"""Names that lead where a test says."""

from __future__ import annotations

import socket

from aiohttp.abc import AbstractResolver, ResolveResult
from typing_extensions import override


class Names(AbstractResolver):
    """Resolves every name to the addresses it is given, one list a call, the last one again and again."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    @override
    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        self.asked.append(host)
        found = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=0,
            )
            for address in found
        ]

    @override
    async def close(self) -> None:
        pass
