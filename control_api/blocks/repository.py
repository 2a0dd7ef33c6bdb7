"""Every SQL statement about blocks: those that all named nouns share."""

from __future__ import annotations

from control_api.kit.named import NamedNoun
from control_api.models import Block

rows = NamedNoun(Block, "blocking rule", "blk")
