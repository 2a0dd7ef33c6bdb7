"""Where the lifecycle hands over a request to the Responses API: the one step that this protocol has more than others.

What it does not know: limits, guards, targets, which come after it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from foundry.codecs.base import Answer, Call
from foundry.codecs.fields import flag
from foundry.gateway.delivery import Delivery, Send
from foundry.gateway.exchange import Exchange
from foundry.gateway.stateful.responses.background import Background
from foundry.gateway.stateful.responses.turns import Turns

Onwards = Callable[[Call, Send], Awaitable[None]]
"""The rest of the lifecycle."""


class ResponsesEntry:
    """One per gateway replica."""

    def __init__(self, turns: Turns, background: Background, delivery: Delivery) -> None:
        self._turns = turns
        self._background = background
        self._delivery = delivery

    async def serve(self, exchange: Exchange, call: Call, send: Send, onwards: Onwards) -> None:
        """Go on with the whole conversation as input and keep what comes of it; or begin it in the background. Raises what
        `onwards` raises, and what is wrong with the request."""
        turn = await self._turns.begin(exchange, call)
        if (
            exchange.answer_id
        ):  # the gateway's own request for a response in the background: its task keeps the answer
            await onwards(turn.call, send)
        elif flag(call.fields, "background"):
            queued = await self._background.start(exchange, turn, call.fields)
            await self._delivery.answer(exchange, Answer(queued, None), send)
        elif turn.stores:
            await onwards(turn.call, self._turns.keeping(turn, send))
        else:
            await onwards(turn.call, send)
