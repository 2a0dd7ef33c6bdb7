"""Random interleavings of requests on several replicas, in virtual time: nothing is exceeded beyond the bound, nobody is refused
while there is room."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.foundry.gateway.limits.cluster import Cluster, Request, binding, limit
from tests.support.virtual_time import run

_SETTINGS = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
_DELAYS = st.sampled_from([0.0, 0.001, 0.05, 0.3])


def loads(exact: bool, most: int = 40) -> st.SearchStrategy[list[Request]]:
    def request(draw: st.DrawFn) -> Request:
        estimate = draw(st.integers(1, 30))
        truth = draw(st.integers(0, estimate)) if exact else draw(st.integers(0, 60))
        return Request(
            replica=draw(st.integers(0, 3)),
            at=draw(st.integers(0, 80)) / 10,
            lasts=draw(st.sampled_from([0.0, 0.01, 0.3, 2.0, 5.0])),
            estimate=estimate,
            truth=truth,
            cancelled_after=draw(st.sampled_from([None, None, None, 0.1, 0.6])),
        )

    return st.lists(st.composite(request)(), min_size=1, max_size=most)


async def _play(cluster: Cluster, load: list[Request]) -> None:
    cluster.start()
    await cluster.play(load)
    await cluster.stop()


@_SETTINGS
@given(loads(exact=True), st.integers(1, 4), st.sampled_from([0, 1, 20, 100, 300]), st.integers(0, 10**6), _DELAYS,
       st.sampled_from(["usd", "tokens", "output_tokens"]))  # fmt: skip
def test_with_honest_estimates_nothing_is_exceeded_and_nobody_is_refused_wrongly(
    load: list[Request], replicas: int, cap: int, seed: int, delay: float, meter: str
) -> None:
    amount = f"0.{cap:06d}" if meter == "usd" else cap
    cluster = Cluster(binding(limit(meter, amount)), replicas, seed, delay)
    run(_play(cluster, load))
    assert cluster.cap() == cap
    for at in cluster.instants():
        for start in {request.start for request in load}:
            assert cluster.in_use(at, start, pending=False) <= cap
    cluster.check_refusals()
    assert not [request for request in load if request.outcome in {"unavailable", "pending"}]
