"""Verdicts, jitter and budgets."""

from __future__ import annotations

from random import Random

import pytest

from foundry.errors import (
    ConfigurationError,
    DeploymentNotReady,
    FoundryError,
    InvalidParameter,
    ProtocolNotServed,
    UnsupportedParameter,
    UpstreamBroke,
    UpstreamRefused,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from foundry.gateway.routing.retries import Budget, Verdict, full_jitter_s, verdict_on
from foundry.types.routing import Retries

AGAIN = Verdict(unhealthy=True, same=True, other=True)


def _refused(status: int) -> UpstreamRefused:
    return UpstreamRefused("x", status=502, upstream_status=status)


@pytest.mark.parametrize("status", [408, 500, 502, 503, 504, 529])
def test_their_trouble_is_tried_again(status: int) -> None:
    assert verdict_on(_refused(status)) == AGAIN


@pytest.mark.parametrize("error", [UpstreamUnreachable("x"), UpstreamBroke("x"), UpstreamTimeout("x")])
def test_silence_is_tried_again(error: FoundryError) -> None:
    assert verdict_on(error) == AGAIN


@pytest.mark.parametrize("status", [400, 413, 415, 422])
def test_the_callers_fault_counts_against_nobody_and_is_final(status: int) -> None:
    assert verdict_on(_refused(status)) == Verdict()


@pytest.mark.parametrize("status", [401, 403, 404])
def test_our_credentials_trouble_goes_elsewhere(status: int) -> None:
    assert verdict_on(_refused(status)) == Verdict(unhealthy=True, other=True)


def test_a_rate_limit_rests_the_target_and_counts_against_nobody() -> None:
    assert verdict_on(_refused(429)) == Verdict(same=True, other=True, cool=True)


@pytest.mark.parametrize(
    "error",
    [UnsupportedParameter("x"), ProtocolNotServed("x"), DeploymentNotReady("x"), ConfigurationError("x")],
)
def test_a_target_that_was_never_asked_costs_no_try(error: FoundryError) -> None:
    assert verdict_on(error) == Verdict(other=True, skip=True)


def test_our_own_no_is_final() -> None:
    assert verdict_on(InvalidParameter("x")) == Verdict()


def test_full_jitter_is_uniform_below_a_doubling_bound() -> None:
    random, retries = Random(7), Retries(base_ms=100, max_ms=350)
    for retry, bound_s in [(0, 0.1), (1, 0.2), (2, 0.35), (200, 0.35)]:
        waits = [full_jitter_s(retries, retry, random) for _ in range(500)]
        assert max(waits) <= bound_s
        assert max(waits) > 0.95 * bound_s
        assert min(waits) < 0.05 * bound_s


def test_retries_are_a_share_of_the_requests_with_a_floor() -> None:
    budget, now = Budget(), 5000.0
    budget.request(now)
    assert [budget.take_retry(now, 0.2) for _ in range(5)] == [True, True, True, False, False]
    for _ in range(49):
        budget.request(now)
    assert sum(budget.take_retry(now, 0.2) for _ in range(50)) == 7, "ten of fifty in all"
    assert budget.take_retry(now + 11, 0.2), "ten seconds later all is forgotten"


def test_hedges_are_a_share_with_a_floor_of_one() -> None:
    budget, now = Budget(), 5000.0
    assert [budget.take_hedge(now, 0.05) for _ in range(3)] == [True, False, False]
    for _ in range(100):
        budget.request(now)
    assert sum(budget.take_hedge(now, 0.05) for _ in range(20)) == 4
