"""An identity provider on loopback: it signs tokens, and serves its public keys over HTTP or as a file."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

ISSUER, AUDIENCE = "https://id.example", "gateway"
_MAKERS = {"RS256": RSAAlgorithm, "ES256": ECAlgorithm, "EdDSA": OKPAlgorithm}


@lru_cache(maxsize=8)
def private_key(kind: str, name: str) -> Any:
    match kind:
        case "RS256":
            return rsa.generate_private_key(public_exponent=65537, key_size=2048)
        case "ES256":
            return ec.generate_private_key(ec.SECP256R1())
        case _:
            return ed25519.Ed25519PrivateKey.generate()


def public_jwk(kind: str, name: str, **more: Any) -> dict[str, Any]:
    maker: Any = _MAKERS[kind]
    return {**json.loads(maker.to_jwk(private_key(kind, name).public_key())), "kid": name, **more}


def token(kind: str = "RS256", name: str = "k1", headers: dict[str, Any] | None = None, **claims: Any) -> str:
    """A good token, changed by `claims`; those that are None are left out."""
    payload = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "user-1",
        "exp": time.time() + 600,
        "project": "search",
        **claims,
    }
    chosen = {name: value for name, value in payload.items() if value is not None}
    return jwt.encode(chosen, private_key(kind, name), algorithm=kind, headers={"kid": name, **(headers or {})})


class IdentityProvider:
    """Serves `document` at `url`, or what else a test says."""

    def __init__(self) -> None:
        self.keys: list[dict[str, Any]] = [public_jwk("RS256", "k1")]
        self.document: bytes | None = None
        """Served instead of the keys."""
        self.status = "200 OK"
        self.asked = 0
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            self.asked += 1
            await self.go_on.wait()
            body = self.document if self.document is not None else json.dumps({"keys": self.keys}).encode()
            writer.write(f"HTTP/1.1 {self.status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode())
            writer.write(body)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client had enough
        finally:
            writer.close()

    def write(self, path: Path) -> None:
        path.write_text(json.dumps({"keys": self.keys}), encoding="utf-8")


@asynccontextmanager
async def identity_provider() -> AsyncIterator[IdentityProvider]:
    provider = IdentityProvider()
    server = await asyncio.start_server(provider.serve, "127.0.0.1", 0)
    provider.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/jwks.json"
    try:
        yield provider
    finally:
        provider.go_on.set()
        server.close()
        await server.wait_closed()
