"""What every section of `aigateway.yaml` is made of."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

_BOOLEANS: Final = dict.fromkeys(("true", "1", "yes", "on"), True) | dict.fromkeys(("false", "0", "no", "off"), False)


def boolean(value: object) -> object:
    """True and false in the words people use; anything else is left for pydantic to refuse."""
    return _BOOLEANS.get(str(value).lower(), value)


MAX_WORKERS: Final = 64
"""Processes among which `up` divides the calls, at most: more than machines have cores for a gateway."""

Boolean = Annotated[bool, BeforeValidator(boolean)]
Seconds = Annotated[float, Field(gt=0)]


class Section(BaseModel):
    """A section: nothing may stand in it that it does not name."""

    model_config = ConfigDict(extra="forbid", frozen=True)
