"""The translation report: what could not be carried to the provider as asked."""

from __future__ import annotations

from aigateway.v1 import chat_pb2
from aigateway_common.errors import GatewayError


class Report:
    """Collects notes while a request is translated; each field is noted once."""

    __slots__ = ("_notes", "_strict")

    def __init__(self, policy: chat_pb2.TranslationPolicy.ValueType = chat_pb2.TRANSLATION_POLICY_LENIENT) -> None:
        self._strict = policy == chat_pb2.TRANSLATION_POLICY_STRICT
        self._notes: dict[str, chat_pb2.TranslationNote] = {}

    def dropped(self, field: str, detail: str = "") -> None:
        """`field` was left out."""
        self._note(field, chat_pb2.TRANSLATION_ACTION_DROPPED, detail)

    def clamped(self, field: str, detail: str) -> None:
        """`field` was moved to the nearest value the provider takes."""
        self._note(field, chat_pb2.TRANSLATION_ACTION_CLAMPED, detail)

    def emulated(self, field: str, detail: str) -> None:
        """`field` was reached by other means."""
        self._note(field, chat_pb2.TRANSLATION_ACTION_EMULATED, detail)

    def settle(self) -> list[chat_pb2.TranslationNote]:
        """The notes so far; call it before the request is sent.

        Raises:
            GatewayError: TRANSLATION_REFUSED, when the policy is strict and there are notes.
        """
        if self._strict and self._notes:
            fields = ", ".join(f"`{field}`" for field in self._notes)
            raise GatewayError(
                "TRANSLATION_REFUSED",
                f"the provider cannot carry {fields} as asked, and the translation policy is strict",
                details={"param": next(iter(self._notes))},
            )
        return self.notes()

    def notes(self) -> list[chat_pb2.TranslationNote]:
        """The notes so far, in order."""
        return list(self._notes.values())

    def _note(self, field: str, action: chat_pb2.TranslationAction.ValueType, detail: str) -> None:
        if field not in self._notes:
            self._notes[field] = chat_pb2.TranslationNote(field=field, action=action, detail=detail)
