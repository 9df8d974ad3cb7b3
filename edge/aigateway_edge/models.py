"""`GET /v1/models` and `GET /v1/models/{id}`; an id may hold slashes, as `provider/model` does."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING

from aigateway.v1 import gateway_service_pb2
from aigateway_common.errors import GatewayError

from aigateway_edge.exchange import Edge, Exchange
from aigateway_edge.openai import from_proto

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send


class Models:
    """Both routes, as an ASGI application."""

    def __init__(self, edge: Edge) -> None:
        self._edge = edge

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        exchange = Exchange(self._edge, "list_models", scope, receive, send)
        await exchange.run(self._answer(exchange))

    async def _answer(self, exchange: Exchange) -> None:
        response = await exchange.result(
            self._edge.stub.ListModels(
                gateway_service_pb2.ListModelsRequest(), timeout=exchange.timeout(), metadata=exchange.metadata()
            )
        )
        wanted: str | None = exchange.scope["path_params"].get("id")
        if wanted is None:
            await exchange.reply(from_proto.models(response.models, response.unavailable))
            return
        exchange.model = wanted
        found = {model.id: model for model in response.models}
        if wanted not in found:
            raise _unknown(wanted, list(found))
        await exchange.reply(from_proto.model(found[wanted]))


def _unknown(wanted: str, known: list[str]) -> GatewayError:
    near = ", ".join(f"`{name}`" for name in get_close_matches(wanted, known, n=3, cutoff=0.5))
    hint = f"; did you mean {near}?" if near else "; `GET /v1/models` lists them"
    return GatewayError("MODEL_NOT_FOUND", f"there is no model `{wanted[:128]}`{hint}", details={"param": "model"})
