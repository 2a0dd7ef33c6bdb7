"""Which cells the matrix has. What it does not know: what comes of them (`expect.py`), sockets."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Literal

from foundry.types.deployment import Task
from tests.support.vendor_script import WORDS

Protocol = Literal[
    "chat", "completions", "responses", "messages", "embeddings", "rerank", "moderations", "transcription",
    "speech", "images",
]  # fmt: skip
Kind = Literal["own", "openai", "azure", "anthropic", "gemini", "bedrock", "cohere"]
Scenario = Literal[
    "completed", "kinds", "no-usage", "fat-final", "refused", "before", "mid", "error", "last", "abort", "not-served",
]  # fmt: skip

KINDS: dict[Kind, str] = {
    "own": "own engine",
    "openai": "OpenAI-compatible",
    "azure": "Azure",
    "anthropic": "Anthropic",
    "gemini": "Gemini",
    "bedrock": "Bedrock",
    "cohere": "Cohere",
}
"""Provider kinds and how the page calls them."""
SCENARIOS: dict[Scenario, tuple[str, str]] = {
    "completed": ("completed", "plain"),
    "kinds": ("reasoning and cached tokens", "ok"),
    "no-usage": ("without usage", "no-usage"),
    "fat-final": ("usage beside choices", "fat-final"),
    "refused": ("upstream says 429", "status-429"),
    "before": ("dies before the first byte", "die-before"),
    "mid": ("dies mid-stream", "die-mid"),
    "error": ("error mid-stream", "error-mid"),
    "last": ("dies at the last chunk", "die-at-last"),
    "abort": ("client aborts at a random chunk", "hold"),
    "not-served": ("", "ok"),
}
"""The page's heading, and the behaviour of the double."""
_CHATS: tuple[Protocol, ...] = ("chat", "completions", "responses", "messages")
_OPENAI_KINDS: tuple[Kind, ...] = ("own", "openai", "azure")
_ALL_KINDS = tuple(KINDS)
SERVED: dict[Protocol, tuple[Kind, ...]] = {
    "chat": _ALL_KINDS,
    "completions": _OPENAI_KINDS,
    "responses": _ALL_KINDS,
    "messages": _ALL_KINDS,
    "embeddings": ("own", "openai", "azure", "gemini", "bedrock", "cohere"),
    "rerank": ("own", "openai", "cohere"),
    "moderations": ("own", "openai"),
    "transcription": _OPENAI_KINDS,
    "speech": _OPENAI_KINDS,
    "images": _OPENAI_KINDS,
}
"""Who has an endpoint for it; the others are refused before anybody is asked."""
_STREAMS: dict[Protocol, tuple[bool, ...]] = {
    **dict.fromkeys((*_CHATS, "transcription", "images"), (False, True)),
    **dict.fromkeys(("embeddings", "rerank", "moderations"), (False,)),
    "speech": (True,),
}
TASKS: dict[Protocol, Task] = {
    **dict.fromkeys(_CHATS, Task.GENERATE),
    "embeddings": Task.EMBED,
    "rerank": Task.RERANK,
    "moderations": Task.MODERATE,
    "transcription": Task.TRANSCRIBE,
    "speech": Task.SPEAK,
    "images": Task.IMAGE,
}
_ONE_SORT: frozenset[Protocol] = frozenset({"embeddings", "rerank", "moderations", "speech"})
"""There is one kind of token (or none): nothing to mix up."""
_TELLS_NOTHING: frozenset[Protocol] = frozenset({"moderations", "speech"})


@dataclass(frozen=True)
class Cell:
    """One request and its fate."""

    protocol: Protocol
    kind: Kind
    stream: bool
    scenario: Scenario

    @property
    def id(self) -> str:
        """Also the request's id, by which its usage record is found."""
        return f"{self.protocol}-{self.kind}-{'stream' if self.stream else 'whole'}-{self.scenario}"

    @property
    def words(self) -> int:
        """Chunks with content that come before it ends: all, two when the upstream fails, a random number before an abort."""
        if self.scenario in ("mid", "error"):
            return 2
        return Random(self.id).randint(1, len(WORDS)) if self.scenario == "abort" else len(WORDS)

    @property
    def behaviour(self) -> str:
        """The upstream's name of the model."""
        behaviour = SCENARIOS[self.scenario][1]
        return f"hold-{self.words}" if behaviour == "hold" else behaviour

    @property
    def model(self) -> str:
        """The public name of the model: the route."""
        return f"{self.kind}.{TASKS[self.protocol].value}.{self.target}"

    @property
    def target(self) -> str:
        """Names the target. One that asks for a rest is nobody else's."""
        return self.id if self.scenario == "refused" else self.behaviour

    @property
    def served(self) -> bool:
        """Whether there is an answer to be had."""
        return self.scenario != "not-served"

    @property
    def wire(self) -> str:
        """What is spoken with the upstream."""
        if self.kind == "cohere":
            return "cohere" if self.protocol == "rerank" else "openai"
        if self.kind == "openai" and self.protocol == "responses":
            return "openai-responses"
        return "openai" if self.kind in _OPENAI_KINDS else self.kind

    @property
    def translated(self) -> bool:
        """Whether caller and upstream speak different protocols of conversation."""
        through = {("chat", "openai"), ("completions", "openai"), ("responses", "openai-responses")}
        return self.protocol in _CHATS and (self.protocol, self.wire) not in through | {
            ("messages", "anthropic")
        }


def _applies(cell: Cell) -> bool:
    match cell.scenario:
        case "fat-final":
            return cell.stream and cell.wire == "openai" and cell.protocol in _CHATS
        case "kinds":
            return cell.protocol not in _ONE_SORT
        case "no-usage":
            return cell.protocol not in _TELLS_NOTHING
        case "error":
            return cell.protocol != "speech"
        case _:
            return True


def all_cells() -> Iterator[Cell]:
    """In the page's order."""
    for protocol, kinds in SERVED.items():
        for kind in KINDS:
            for stream in _STREAMS[protocol]:
                if kind not in kinds:
                    yield Cell(protocol, kind, stream, "not-served")
                    continue
                cells = (Cell(protocol, kind, stream, one) for one in SCENARIOS if one != "not-served")
                yield from (cell for cell in cells if _applies(cell))
