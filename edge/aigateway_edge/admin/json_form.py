"""Messages of the contract as the JSON of `/admin`, and back: the fields' own names, in a form that people read.

Moments are RFC 3339 (`created_at_us` becomes `created_at`), words of enumerations lose their prefix, JSON inside of
messages is JSON (`detail_json` becomes `detail`), and what is not set is null. Pure; not for the calls' hot path.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import orjson

if TYPE_CHECKING:
    from collections.abc import Mapping

    from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor
    from google.protobuf.message import Message

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MOMENT: Final = re.compile(r"(^|_)(at|until)_us$")
_WHOLE: Final = frozenset({"Limits", "CallDefaults"})
"""Messages that say nothing by being absent: their fields are shown anyway."""


def to_json(message: Message) -> dict[str, Any]:
    """The message as plain values, every field of it."""
    return {name(field.name): _shown(message, field) for field in message.DESCRIPTOR.fields}


def merge(message: Message, given: Mapping[str, Any]) -> None:
    """Set what is `given` in `message`; None clears a field, an object is merged into its message."""
    fields = {name(field.name): field for field in message.DESCRIPTOR.fields}
    for key, value in given.items():
        field = fields[key]
        if value is None:
            message.ClearField(field.name)
        elif field.message_type is not None:
            merge(getattr(message, field.name), value)
        elif isinstance(value, list):
            message.ClearField(field.name)
            getattr(message, field.name).extend(value)
        elif isinstance(value, datetime):
            setattr(message, field.name, microseconds(value))
        elif field.enum_type is not None:
            setattr(message, field.name, number(field.enum_type, value))
        else:
            setattr(message, field.name, value)


def name(field: str) -> str:
    """A field's name in JSON."""
    return field.removesuffix("_json") if field.endswith("_json") else _MOMENT.sub(r"\1\2", field)


def microseconds(moment: datetime) -> int:
    """A moment as the contract counts it; whole, where floating point would not be."""
    return (moment - _EPOCH) // timedelta(microseconds=1)


def moment(us: int) -> str:
    """Microseconds since the epoch in RFC 3339, in UTC; those beyond the calendar are its end."""
    try:
        found = _EPOCH + timedelta(microseconds=us)
    except OverflowError:
        found = datetime.max.replace(tzinfo=UTC) if us > 0 else datetime.min.replace(tzinfo=UTC)
    return found.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def word(enum: EnumDescriptor, value: int) -> str | None:
    """A value of an enumeration as a word; None for the one that says nothing, a number for one unknown here."""
    if value == 0:
        return None
    known = enum.values_by_number.get(value)
    return str(value) if known is None else known.name.removeprefix(_prefix(enum)).lower()


def number(enum: EnumDescriptor, text: str) -> int:
    """The value of an enumeration behind its word."""
    found: int = enum.values_by_name[_prefix(enum) + text.upper()].number
    return found


def words(enum: EnumDescriptor) -> list[str]:
    """All the words of an enumeration."""
    return [found for value in enum.values if (found := word(enum, value.number)) is not None]


def _shown(message: Message, field: FieldDescriptor) -> Any:
    value = getattr(message, field.name)
    if field.message_type is not None:
        if field.is_repeated:
            return [to_json(one) for one in value]
        shown = message.HasField(field.name) or field.message_type.name in _WHOLE
        return to_json(value) if shown else None
    if field.is_repeated:
        return list(value)
    if field.has_presence and not message.HasField(field.name):
        return None
    return _scalar(field, value)


def _scalar(field: FieldDescriptor, value: Any) -> Any:
    if field.enum_type is not None:
        return word(field.enum_type, value)
    if field.name.endswith("_json"):
        return _parsed(value)
    if _MOMENT.search(field.name):
        return moment(value) if value or field.has_presence else None
    return value


def _parsed(text: str | bytes) -> Any:
    """JSON that somebody else wrote; what is none is shown as the text it is."""
    if not text:
        return None
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return text if isinstance(text, str) else text.decode("utf-8", "replace")


def _prefix(enum: EnumDescriptor) -> str:
    """`BUDGET_SCOPE_` of `BudgetScope`, by the value that every enumeration begins with."""
    first: str = enum.values_by_number[0].name
    return first.removesuffix("UNSPECIFIED")
