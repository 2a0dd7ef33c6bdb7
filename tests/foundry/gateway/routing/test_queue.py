"""The queue: first come first served, callers that leave, deadlines, and targets that go out while one waits."""

from __future__ import annotations

import asyncio

import pytest

from foundry.errors import QueueFull
from foundry.gateway.routing.queue import RouteQueue
from foundry.gateway.routing.targets import Candidate, Lease
from foundry.types.routing import Health, Queue
from tests.foundry.gateway.routing.conftest import Clock, candidate

LONG = Queue(deadline_s=30)


async def _started(*waits: asyncio.Task[Lease | None]) -> None:
    del waits
    await asyncio.sleep(0)


def _wait(queue: RouteQueue, candidates: list[Candidate], limits: Queue = LONG) -> asyncio.Task[Lease | None]:
    return asyncio.create_task(queue.wait(candidates, limits, "r"))


async def test_places_are_handed_over_in_order_and_never_pass_through_the_open(clock: Clock) -> None:
    queue, one = RouteQueue(clock), candidate("a", max_concurrency=1)
    held = one.enter(clock())
    first, second = _wait(queue, [one]), _wait(queue, [one])
    await _started(first, second)
    assert one.state.waiting == 2
    held.close()
    assert one.state.in_flight == 1, "handed over, not freed"
    assert not one.has_room()
    lease = await first
    assert lease is not None
    assert not second.done()
    lease.close()
    last = await second
    assert last is not None
    last.close()
    assert (one.state.in_flight, one.state.waiting, one.state.rooms, len(queue)) == (0, 0, {}, 0)


async def test_a_newcomer_does_not_overtake_those_who_wait(clock: Clock) -> None:
    queue, one = RouteQueue(clock), candidate("a", max_concurrency=2)
    held = [one.enter(clock()), one.enter(clock())]
    waiting = _wait(queue, [one])
    await _started(waiting)
    one.state.in_flight -= 1  # room that nobody handed over
    assert not one.has_room()
    assert one.has_room_in_turn()
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert one.has_room()
    del held


async def test_a_caller_that_leaves_gives_its_turn_and_a_place_handed_to_it_away(clock: Clock) -> None:
    queue, one = RouteQueue(clock), candidate("a", max_concurrency=1)
    held = one.enter(clock())
    first, second = _wait(queue, [one]), _wait(queue, [one])
    await _started(first, second)
    held.close()  # handed to the first, which leaves in the same moment
    first.cancel()
    lease = await second
    assert lease is not None
    assert one.state.in_flight == 1
    lease.close()
    assert one.state.in_flight == 0
    assert first.cancelled()


async def test_a_full_queue_refuses_and_names_the_route(clock: Clock) -> None:
    queue, one = RouteQueue(clock), candidate("a", max_concurrency=1)
    one.enter(clock())
    waiting = _wait(queue, [one], Queue(max_waiting=1))
    await _started(waiting)
    with pytest.raises(QueueFull, match="'r'") as caught:
        await queue.wait([one], Queue(max_waiting=1), "r")
    assert caught.value.retry_after_s
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)


async def test_the_deadline_ends_a_wait_and_leaves_nothing_behind(clock: Clock) -> None:
    queue, one = RouteQueue(clock), candidate("a", max_concurrency=1)
    one.enter(clock())
    waiting = _wait(queue, [one], Queue(deadline_s=0.05))
    await _started(waiting)
    clock.now += 0.05
    with pytest.raises(QueueFull, match=r"0\.05 s"):
        await waiting
    assert (one.state.waiting, one.state.rooms, len(queue)) == (0, {}, 0)


async def test_a_place_at_any_of_the_candidates_will_do(clock: Clock) -> None:
    queue = RouteQueue(clock)
    a, b = candidate("a", max_concurrency=1), candidate("b", max_concurrency=1)
    a.enter(clock())
    held = b.enter(clock())
    waiting = _wait(queue, [a, b])
    await _started(waiting)
    held.close()
    lease = await waiting
    assert lease is not None
    assert lease.candidate is b


async def test_two_routes_that_share_a_target_take_turns(clock: Clock) -> None:
    one = candidate("a", max_concurrency=1)
    left, right = RouteQueue(clock), RouteQueue(clock)
    held: Lease | None = one.enter(clock())
    waits = {
        "l1": _wait(left, [one]), "l2": _wait(left, [one]), "r1": _wait(right, [one]), "r2": _wait(right, [one]),
    }  # fmt: skip
    await _started()
    served: list[str] = []
    for _ in range(4):
        assert held is not None
        held.close()
        pending = [task for name, task in waits.items() if name not in served]
        await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        [done] = [name for name, task in waits.items() if task.done() and name not in served]
        served.append(done)
        held = await waits[done]
    assert served == ["l1", "r1", "l2", "r2"]


async def test_when_the_target_goes_out_those_who_wait_are_told(clock: Clock) -> None:
    queue, one = RouteQueue(clock), candidate("a", Health(min_requests=1), max_concurrency=1)
    held = one.enter(clock())
    waiting = _wait(queue, [one])
    await _started(waiting)
    held.failed(clock())
    held.close()
    assert await waiting is None
    assert one.state.in_flight == 0


async def test_a_target_that_has_rested_enough_is_taken_without_a_hand_over(clock: Clock) -> None:
    queue = RouteQueue(clock)
    full, resting = candidate("full", max_concurrency=1), candidate("resting")
    full.enter(clock())
    resting.state.cool_until = clock() + 0.02
    waiting = _wait(queue, [full, resting])
    await _started(waiting)
    clock.now += 0.02
    lease = await waiting
    assert lease is not None
    assert lease.candidate is resting
