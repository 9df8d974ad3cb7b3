"""What is published about models: context windows and prices, from the data that genai-prices ships.

Nothing is fetched. Importing it takes a sixth of a second and some 6 MB, so it is not imported with this module: `load`
does that, for a thread.
"""

from __future__ import annotations

import gc
from threading import Event, Lock
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo

_PROVIDERS: Final = {"gemini": "google"}
"""Our name of a provider to genai-prices', where they differ."""
_LOADED: Final = Event()
_LOADING: Final = Lock()


def load() -> None:
    """Import the data; for a thread, once.

    It is a hundred thousand objects that stay. Making them sets off full collections, which hold all threads for
    20-90 ms each, so there are none meanwhile, and later ones need not visit what is here by then.
    """
    with _LOADING:
        if _LOADED.is_set():
            return
        collecting = gc.isenabled()
        gc.disable()
        try:
            find("", "")
            gc.freeze()
        finally:
            if collecting:
                gc.enable()
        _LOADED.set()


def loaded() -> bool:
    """Whether `find` is quick by now (a tenth of a millisecond; a millisecond for a name nobody knows)."""
    return _LOADED.is_set()


def find(provider: str, model: str) -> ModelInfo | None:
    """What is published about a provider's model, or None."""
    from genai_prices.data_snapshot import get_snapshot  # noqa: PLC0415 -- slow to import

    try:
        _, found = get_snapshot().find_provider_model(model, None, _PROVIDERS.get(provider, provider), None)
    except LookupError:
        return None
    return found
