"""Every SQL statement about limits: those that all named nouns share."""

from __future__ import annotations

from control_api.kit.named import NamedNoun
from control_api.models import Limit

rows = NamedNoun(Limit, "limit", "lim")
