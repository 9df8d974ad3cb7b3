"""The list of models over all providers, kept for a while; a provider that does not answer costs only its own."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from aigateway.v1 import gateway_service_pb2, model_pb2, provider_service_pb2, provider_service_pb2_grpc
from aigateway_common import model_facts
from aigateway_common.errors import GatewayError
from grpc import aio

from aigateway_router.provider_errors import from_provider

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from aigateway_router.routes import Routes
    from aigateway_router.settings import RouterSettings

_FAILURE_TTL: Final = 5.0
"""Seconds that a failure is kept, so that many callers do not wait for the same silent provider again and again."""
_IDS_WAIT: Final = 1.0
"""Seconds that an unknown model's error waits for the names it is compared with."""


@dataclass(frozen=True, slots=True)
class _Listing:
    """What one provider said when last asked."""

    models: tuple[model_pb2.Model, ...]
    unavailable: str
    """Why there are none; empty when the provider answered."""
    expires: float


@dataclass(frozen=True, slots=True)
class _Question:
    """What one provider is being asked."""

    ids: asyncio.Future[tuple[str, ...]]
    """There as soon as it has answered; what is known of its models beside takes longer, at first much longer."""
    listing: asyncio.Task[_Listing]


class ModelCatalog:
    """Lists models; asks each provider at most once at a time."""

    def __init__(self, providers: Mapping[str, aio.Channel], routes: Routes, settings: RouterSettings) -> None:
        self._stubs = {
            name: provider_service_pb2_grpc.ProviderServiceStub(channel) for name, channel in providers.items()
        }
        self._routes = routes
        self._pools = settings.pools
        self._ttl = settings.models_ttl
        self._timeout = settings.models_timeout
        self._listings: dict[str, _Listing] = {}
        self._asking: dict[str, _Question] = {}

    def reroute(self, routes: Routes) -> None:
        """List the aliases of `routes` from now on."""
        self._routes = routes

    async def list_models(self, provider: str = "") -> gateway_service_pb2.ListModelsResponse:
        """The models of every provider, or of one, and the aliases that lead there, by id.

        Raises:
            GatewayError: PROVIDER_DISABLED or NOT_FOUND, when `provider` cannot be asked.
        """
        if provider and provider not in self._stubs:
            raise self._no_such(provider)
        names = [provider] if provider else list(self._stubs)
        listings = dict(zip(names, await asyncio.gather(*(self._listing(name) for name in names)), strict=True))
        models = {model.id: model for listing in listings.values() for model in listing.models}
        models |= self._pooled(listings)
        models |= self._aliases(listings, models)
        return gateway_service_pb2.ListModelsResponse(
            models=[models[name] for name in sorted(models)],
            unavailable={name: listing.unavailable for name, listing in listings.items() if listing.unavailable},
        )

    async def ids(self) -> list[str]:
        """The known ids of models; what a slow provider has is left out."""
        tasks = [asyncio.ensure_future(self._ids(name)) for name in self._stubs]
        if not tasks:
            return []
        done, late = await asyncio.wait(tasks, timeout=_IDS_WAIT)
        for task in late:
            task.cancel()
        return [one for task in done if not task.cancelled() for one in task.result()]

    async def stop(self) -> None:
        """Ask no longer."""
        tasks = [question.listing for question in self._asking.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _no_such(self, provider: str) -> GatewayError:
        if self._routes.is_known(provider):
            return self._routes.disabled_error(provider)
        names = ", ".join(f"`{name}`" for name in sorted(self._stubs))
        return GatewayError(
            "NOT_FOUND", f"no provider is called `{provider[:100]}`; there are {names}", details={"param": "provider"}
        )

    def _pooled(self, listings: Mapping[str, _Listing]) -> dict[str, model_pb2.Model]:
        """An entry for each model of each pool: what any of its members has."""
        entries: dict[str, model_pb2.Model] = {}
        for name, pool in self._pools.items():
            for model in (model for member in pool.members if member in listings for model in listings[member].models):
                entry = model_pb2.Model()
                entry.CopyFrom(model)
                entry.id, entry.provider = f"{name}/{model.upstream_model}", name
                entries.setdefault(entry.id, entry)
        return entries

    def _aliases(
        self, listings: Mapping[str, _Listing], models: Mapping[str, model_pb2.Model]
    ) -> dict[str, model_pb2.Model]:
        """An entry for each alias, with what is known of the model it leads to."""
        entries: dict[str, model_pb2.Model] = {}
        for alias, target in self._routes.aliases.items():
            if target.provider in listings or target.provider in self._pools:
                entry = model_pb2.Model(provider=target.provider, upstream_model=target.model)
                entry.MergeFrom(models.get(f"{target.provider}/{target.model}", entry))
                entry.id = alias
                entries[alias] = entry
        return entries

    async def _listing(self, provider: str) -> _Listing:
        known = self._current(provider)
        if known is not None:
            return known
        # Others may wait for the same answer: one that goes away does not take it from them.
        return await asyncio.shield(self._question(provider).listing)

    async def _ids(self, provider: str) -> tuple[str, ...]:
        known = self._current(provider)
        if known is not None:
            return tuple(model.id for model in known.models)
        return await asyncio.shield(self._question(provider).ids)

    def _current(self, provider: str) -> _Listing | None:
        known = self._listings.get(provider)
        return known if known is not None and time.monotonic() < known.expires else None

    def _question(self, provider: str) -> _Question:
        question = self._asking.get(provider)
        if question is None:
            ids: asyncio.Future[tuple[str, ...]] = asyncio.get_running_loop().create_future()
            task = asyncio.create_task(self._ask(provider, ids), name=f"models of {provider}")
            question = self._asking[provider] = _Question(ids, task)
        return question

    async def _ask(self, provider: str, ids: asyncio.Future[tuple[str, ...]]) -> _Listing:
        try:
            answer = await self._stubs[provider].ListModels(
                provider_service_pb2.ProviderServiceListModelsRequest(), timeout=self._timeout
            )
            ids.set_result(tuple(_id(provider, model) for model in answer.models))
            # On a thread: what is published about models takes a while to load, and hundreds of names a while to find.
            models = await asyncio.to_thread(_known, provider, answer.models)
            listing = _Listing(models, "", time.monotonic() + self._ttl)
        except aio.AioRpcError as failure:
            error = from_provider(failure, provider, own_timeout=self._timeout)
            ids.set_result(())
            listing = _Listing((), error.message, time.monotonic() + min(self._ttl, _FAILURE_TTL))
        finally:
            ids.cancel()  # unless it has its result: then nobody is answered any more
            del self._asking[provider]
        self._listings[provider] = listing
        return listing


def _known(provider: str, models: Sequence[model_pb2.Model]) -> tuple[model_pb2.Model, ...]:
    """The models with the names to call them by, and with what is known of them beside their provider's word."""
    entries = tuple(_named(provider, model) for model in models)
    for entry in entries:
        model_facts.complete(entry, provider)
    return entries


def _id(provider: str, model: model_pb2.Model) -> str:
    return f"{provider}/{model.id}"


def _named(provider: str, model: model_pb2.Model) -> model_pb2.Model:
    """`model` with the name to call it by."""
    entry = model_pb2.Model()
    entry.CopyFrom(model)
    entry.id = _id(provider, model)
    entry.provider = provider
    entry.upstream_model = model.id
    return entry
