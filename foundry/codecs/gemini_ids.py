"""Gemini's thought signatures inside the ids and signatures that callers carry back.

Gemini wants each signature back with the part it came with. No caller's protocol has a place for one at a tool call, but all
carry ids unchanged: so a signature travels inside the id. What it does not know: requests, answers.
"""

from __future__ import annotations

OURS = "fcall_"
"""How ids begin that Gemini did not give, but we."""
SIGNED = "gemini:"
"""Before a signature of thoughts, so that those of other vendors are never sent to Gemini."""
_SEAL = "__ts__"


def seal(call_id: str, signature: str | None) -> str:
    """A tool call's id with its thought signature (base64) inside, in letters that every protocol allows in ids."""
    if signature is None:
        return call_id
    return call_id + _SEAL + signature.rstrip("=").replace("+", "-").replace("/", "_")


def unseal(call_id: str) -> tuple[str, str | None]:
    """The id and the signature."""
    plain, found, sealed = call_id.partition(_SEAL)
    if not found:
        return plain, None
    signature = sealed.replace("-", "+").replace("_", "/")
    return plain, signature + "=" * (-len(signature) % 4)
