"""What `/admin` takes and answers about projects, keys and budgets, as documented models.

Answers are made from the contract's messages (`json_form`); a test holds these models against them. Fields of requests
that are not named here are mistakes.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

Scope = Literal["key", "project", "provider"]
Period = Literal["day", "week", "month", "total"]

Count = Annotated[int, Field(strict=True, ge=1, le=2**53)]
"""A number that JavaScript, too, can hold."""
Time = Annotated[str, Field(json_schema_extra={"format": "date-time"})]
"""RFC 3339, as `json_form` writes it: the same in JSON and in CSV."""
Few = Annotated[int, Field(strict=True, ge=1, le=2**31 - 1)]
Name = Annotated[str, Field(max_length=200, description="For people.")]
Models = Annotated[
    list[Annotated[str, Field(min_length=1, max_length=256)]],
    Field(
        max_length=1000,
        description="Names that may be asked for, as callers write them or as `provider/model`; `*` and `?` stand for "
        "any text and any one character. Empty: all.",
    ),
]


ProjectId = Annotated[str, Field(max_length=63, json_schema_extra={"pattern": "^[a-z0-9-]{1,63}$"})]
"""The pattern is for readers of the document: the service holds to it, in words."""


class Given(BaseModel):
    """Something that a request says."""

    model_config = ConfigDict(extra="forbid")


class Limits(Given):
    """What may be used; null is no limit."""

    requests_per_minute: Count | None = Field(None, description="Calls a minute.")
    tokens_per_minute: Count | None = Field(None, description="Tokens a minute, prompt and answer together.")
    concurrent_calls: Few | None = Field(None, description="Calls under way at the same time.")


class Defaults(Given):
    """What is used where a call says nothing."""

    model: Annotated[str, Field(max_length=256)] | None = Field(None, description="The model of a call for `default`.")
    max_output_tokens: Count | None = Field(None, description="The most tokens of an answer.")


class ProjectChange(Given):
    """What changes of a project: what is left out stays, null clears; limits and defaults are merged."""

    name: Name | None = None
    limits: Limits | None = Field(None, description="Of all its keys together.")
    allowed_models: Models | None = None
    defaults: Defaults | None = Field(None, description="Where neither the call nor the key says otherwise.")
    disabled: bool | None = Field(None, description="Its keys are refused.")


class NewProject(ProjectChange):
    """A project to make."""

    id: ProjectId = Field(description="Lower-case letters, digits and hyphens, 1 to 63 characters; never changes.")


class Project(BaseModel):
    """A project: what keys and budgets belong to."""

    id: str
    name: str
    limits: Limits
    allowed_models: list[str]
    defaults: Defaults
    created_at: Time | None
    disabled: bool


class KeyChange(Given):
    """What changes of a key: what is left out stays, null clears; limits and defaults are merged."""

    name: Name | None = None
    limits: Limits | None = Field(None, description="Of this key; those of its project hold as well.")
    allowed_models: Models | None = None
    defaults: Defaults | None = Field(None, description="Where the call says nothing.")
    expires_at: AwareDatetime | None = Field(None, description="When it stops to work by itself; null: never.")


class NewKey(KeyChange):
    """A key to make."""

    project: ProjectId = Field(description="The id of the project it belongs to.")


class Key(BaseModel):
    """A key that callers send. The secret itself is stored nowhere."""

    id: str = Field(description="What stands for the key in the ledger, logs and traces.")
    project: str
    name: str
    prefix: str = Field(description="The first characters of the secret, to tell keys apart.")
    limits: Limits
    allowed_models: list[str]
    defaults: Defaults
    created_at: Time | None
    expires_at: Time | None
    revoked_at: Time | None


class NewSecret(Key):
    """A key just made, with what callers send."""

    secret: str = Field(description="Shown this once, and stored nowhere.")


class Rotation(Given):
    """How a key is replaced."""

    overlap_seconds: Annotated[int, Field(strict=True, ge=0, le=31_536_000)] = Field(
        0, description="Seconds that the old key works on; it is revoked at once when 0."
    )


class NewBudget(Given):
    """A budget to set; the one of the same scope, subject and period is replaced."""

    scope: Scope = Field(description="What it limits.")
    subject: Annotated[str, Field(min_length=1, max_length=200)] = Field(
        description="The id of the key or project, or the name of the provider."
    )
    period: Period = Field(description="When spending begins anew, in UTC; `week` on Mondays, `total` never.")
    limit_usd: Annotated[float, Field(gt=0, allow_inf_nan=False)] = Field(description="US dollars.")
    allow_unpriced: bool = Field(
        default=False, description="Calls whose price is unknown are let through, and count nothing."
    )


class Budget(BaseModel):
    """An amount of money that calls may cost in a period."""

    id: str
    scope: Scope | None
    subject: str
    period: Period | None
    limit_usd: float
    allow_unpriced: bool
    spent_usd: float
    reserved_usd: float = Field(description="Set aside for calls under way.")
    resets_at: Time | None
    overridden_until: Time | None = Field(description="Calls are let through beyond the limit until then.")


class Projects(BaseModel):
    """Projects, by id."""

    projects: list[Project]


class Keys(BaseModel):
    """Keys, newest first."""

    keys: list[Key]


class Budgets(BaseModel):
    """Budgets, with what is spent."""

    budgets: list[Budget]
