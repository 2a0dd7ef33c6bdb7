"""Guard `pii`: personal data by Presidio's pattern recognisers, many of them with checksums (cards, IBAN, national numbers).

No language model is loaded (Presidio's `NoOpNlpEngine`), so names of people and places are not found. Runs in the worker
process: Presidio imports spaCy, 110 MB of memory that the gateway itself never holds. What it does not know: what is done
with a finding.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from foundry.errors import ConfigurationError
from foundry.gateway.guardrails.base import Finding, Guard, GuardOptions, Where

if TYPE_CHECKING:
    from presidio_analyzer import AnalyzerEngine

_DEFAULT_ENTITIES = (
    "CREDIT_CARD", "CRYPTO", "EMAIL_ADDRESS", "IBAN_CODE", "IP_ADDRESS", "MEDICAL_LICENSE", "PHONE_NUMBER",
    "UK_NHS", "US_BANK_NUMBER", "US_ITIN", "US_PASSPORT", "US_SSN",
)  # fmt: skip


class PiiOptions(GuardOptions):
    """What to look for."""

    entities: tuple[str, ...] = Field(default=_DEFAULT_ENTITIES, min_length=1)
    """Presidio's names of entities, e.g. "EMAIL_ADDRESS", "US_SSN"."""
    language: str = Field(default="en", pattern=r"^[a-z]{2}$")
    countries: tuple[str, ...] | None = None
    """Of recognisers for one country's numbers, only these ("us", "uk"); None: those that the language brings."""


class Pii(Guard):
    """Presidio's findings with Presidio's scores: 1 where a checksum holds, 0.4 for a plausible telephone number."""

    kind: ClassVar[str] = "pii"
    where: ClassVar[Where] = "worker"
    Options: ClassVar[type[GuardOptions]] = PiiOptions
    libraries: ClassVar[tuple[str, ...]] = ("presidio_analyzer", "spacy")
    extra: ClassVar[str] = "pii"

    def __init__(self, options: PiiOptions) -> None:
        self._options = options
        self._analyzer = _analyzer(options)

    def inspect(self, texts: Sequence[str]) -> list[Finding]:
        """Presidio over each text."""
        entities, language = list(self._options.entities), self._options.language
        return [
            Finding(number, hit.start, hit.end, hit.entity_type, hit.score)
            for number, text in enumerate(texts)
            for hit in self._analyzer.analyze(text, language=language, entities=entities)
        ]


def _analyzer(options: PiiOptions) -> AnalyzerEngine:
    import tldextract
    from presidio_analyzer import AnalyzerEngine, RecognizerRegistry
    from presidio_analyzer.nlp_engine import NoOpNlpEngine

    # Presidio checks the domains of addresses with tldextract, which would fetch a newer list from the network.
    tldextract.extract = tldextract.TLDExtract(suffix_list_urls=(), cache_dir=None)
    engine = NoOpNlpEngine(models=[{"lang_code": options.language, "model_name": ""}])
    engine.load()
    registry = RecognizerRegistry(supported_languages=[options.language])
    registry.load_predefined_recognizers(
        languages=[options.language],
        nlp_engine=engine,
        countries=list(options.countries) if options.countries is not None else None,
    )
    known = set(registry.get_supported_entities(languages=[options.language]))
    unknown = sorted(set(options.entities) - known)
    if unknown:
        raise ConfigurationError(
            f"guard 'pii': Presidio has no recogniser for {', '.join(unknown)} in '{options.language}'; "
            f"it has {', '.join(sorted(known))}",
            param="entities",
        )
    return AnalyzerEngine(registry=registry, nlp_engine=engine, supported_languages=[options.language])
