"""The fields of a multipart form that the gateway itself reads.

What it does not know: files, any one endpoint.
"""

from __future__ import annotations

from foundry.codecs.multipart import Form
from foundry.errors import InvalidParameter

_TRUE, _FALSE = frozenset({"true", "1"}), frozenset({"false", "0", ""})


def form_model(form: Form) -> str:
    """The model. Raises InvalidParameter when it is missing or empty."""
    model = form.text("model")
    if not model:
        raise InvalidParameter("'model' is required: name one of GET /v1/models", param="model")
    return model


def form_flag(form: Form, name: str) -> bool:
    """A field that says yes or no; absent is no. Raises InvalidParameter."""
    text = (form.text(name) or "").strip().lower()
    if text not in _TRUE | _FALSE:
        raise InvalidParameter(f"'{name}' must be true or false, not {text[:40]!r}", param=name)
    return text in _TRUE
