"""What a guard is: it takes texts and returns what it found in them; the rest of the package decides what follows.

A guard says where it runs: `inline` in the event loop (tens of microseconds), `thread`, `worker` (a child process, for
libraries that are large or hold the interpreter for milliseconds), or `route` (it asks a model). What it does not know:
protocols, stages, thresholds, actions.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from importlib.util import find_spec
from typing import ClassVar, Literal, Protocol

import msgspec
from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from foundry.errors import ConfigurationError
from foundry.types.guardrails import Stage

Where = Literal["inline", "thread", "worker", "route"]
Place = tuple[str | int, ...]
"""Path of a text: the member's name, then keys and positions, e.g. ("messages", 2, "content", 0, "text")."""
Role = str
"""Who says it: `system`, `developer`, `user`, `assistant`, `tool` (a tool's result), `tool_call` (arguments that the model
wrote), `reasoning`, `refusal`, `name`, `annotation`, `tool_definition`."""
SAID_BY_CALLER = ("user", "tool")
SAID_BY_MODEL = ("assistant",)


class Said(msgspec.Struct, frozen=True):
    """One text on its way to or from a model."""

    text: str
    role: Role
    place: Place = ()


class Finding(msgspec.Struct, frozen=True, array_like=True):
    """What a guard found: in which of the texts it was given, from where to where (characters), what, how surely."""

    text: int
    start: int
    end: int
    label: str
    score: float


class GuardOptions(BaseModel):
    """Base of the options of every kind."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    roles: tuple[Role, ...] | None = None
    """Look only at texts of these roles; None: at all."""


class AskRoute(Protocol):
    """Asks a route of task `moderate` or `classify` about texts, metered on the caller's key with a record of its own."""

    async def __call__(self, route: str, texts: Sequence[str]) -> list[dict[str, float]]:
        """Per text: label to score, 0 to 1. Raises a FoundryError when the route cannot be asked."""
        ...


class Guard(ABC):
    """One kind of guard, made once per profile. Subclasses are immutable after `__init__`: they are called concurrently."""

    kind: ClassVar[str]
    where: ClassVar[Where] = "inline"
    stages: ClassVar[frozenset[Stage]] = frozenset({"input", "output", "stream"})
    redacts: ClassVar[bool] = True
    """False: its findings are about whole texts, so there is nothing to cut out."""
    Options: ClassVar[type[GuardOptions]] = GuardOptions
    libraries: ClassVar[tuple[str, ...]] = ()
    """Top-level modules that must be installed."""
    extra: ClassVar[str] = "guardrails"
    """The extra of Foundry that brings them."""

    def __init__(self, options: GuardOptions) -> None:
        """Options are of the kind's own class. May take seconds (loads libraries); never called on the request path."""
        del options

    @abstractmethod
    def inspect(self, texts: Sequence[str]) -> list[Finding]:
        """Everything found, in any order; scores below the threshold included."""

    @classmethod
    def options_of(cls, given: dict[str, JsonValue]) -> GuardOptions:
        """The options of a profile's entry, checked. Raises ConfigurationError naming the option."""
        try:
            return cls.Options.model_validate(given)
        except ValidationError as error:
            first = error.errors()[0]
            name = ".".join(str(part) for part in first["loc"])
            raise ConfigurationError(
                f"guard '{cls.kind}': option '{name}': {first['msg']}", param=name
            ) from error

    @classmethod
    def require_libraries(cls) -> None:
        """Raises ConfigurationError with the command that installs what is missing."""
        missing = [name for name in cls.libraries if find_spec(name) is None]
        if missing:
            raise ConfigurationError(
                f"guard '{cls.kind}' needs {', '.join(missing)}: run `uv pip install 'foundry[{cls.extra}]'`",
                param="kind",
            )


class RouteGuard(Guard):
    """A guard that asks a model behind a route."""

    where: ClassVar[Where] = "route"
    redacts: ClassVar[bool] = False

    @property
    @abstractmethod
    def route(self) -> str:
        """The route it asks."""

    @abstractmethod
    async def ask(self, texts: Sequence[str], ask_route: AskRoute) -> list[Finding]:
        """As `inspect`, by asking."""

    def inspect(self, texts: Sequence[str]) -> list[Finding]:
        """Nothing by itself: the engine calls `ask`."""
        raise NotImplementedError(f"guard '{self.kind}' asks the route '{self.route}'")
