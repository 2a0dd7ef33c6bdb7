"""Guard `json_schema`: what the model says must be JSON that follows a schema.

What it does not know: how the model was told so.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import msgspec
from pydantic import JsonValue, field_validator

from foundry.gateway.guardrails.base import SAID_BY_MODEL, Finding, Guard, GuardOptions, Role, Where
from foundry.types.guardrails import Stage

if TYPE_CHECKING:
    from jsonschema.protocols import Validator


class JsonSchemaOptions(GuardOptions):
    """The schema."""

    roles: tuple[Role, ...] | None = SAID_BY_MODEL
    json_schema: dict[str, JsonValue]
    """Draft 2020-12 unless `$schema` says otherwise; references only inside it."""

    @field_validator("json_schema")
    @classmethod
    def _is_schema(cls, schema: dict[str, JsonValue]) -> dict[str, JsonValue]:
        from jsonschema import Draft202012Validator, SchemaError
        from jsonschema.validators import validator_for

        try:
            validator_for(schema, default=Draft202012Validator).check_schema(schema)
        except SchemaError as error:
            raise ValueError(f"not a JSON schema: {error.message}") from error
        return schema


class JsonSchema(Guard):
    """`not_json` or `schema` over the whole text, with score 1; there is no way to redact one: it blocks or flags."""

    kind: ClassVar[str] = "json_schema"
    where: ClassVar[Where] = "thread"
    redacts: ClassVar[bool] = False
    stages: ClassVar[frozenset[Stage]] = frozenset({"output"})
    Options: ClassVar[type[GuardOptions]] = JsonSchemaOptions
    libraries: ClassVar[tuple[str, ...]] = ("jsonschema",)

    def __init__(self, options: JsonSchemaOptions) -> None:
        from jsonschema import Draft202012Validator
        from jsonschema.validators import validator_for

        schema = options.json_schema
        self._validator: Validator = validator_for(schema, default=Draft202012Validator)(schema)

    def inspect(self, texts: Sequence[str]) -> list[Finding]:
        """One finding per text that does not follow."""
        found: list[Finding] = []
        for number, text in enumerate(texts):
            label = self._judge(text)
            if label:
                found.append(Finding(number, 0, len(text), label, 1.0))
        return found

    def _judge(self, text: str) -> str:
        try:
            value: JsonValue = msgspec.json.decode(text)
        except (msgspec.DecodeError, RecursionError):
            return "not_json"
        return "" if self._validator.is_valid(value) else "schema"
