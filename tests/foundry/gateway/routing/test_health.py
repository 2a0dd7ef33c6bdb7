"""The window and the breaker, by a clock in the test's hand."""

from __future__ import annotations

from foundry.gateway.routing.health import Breaker, Window
from foundry.types.routing import Health

T0 = 5000.0


def _failing(breaker: Breaker, now: float = T0, times: int = 5) -> None:
    for _ in range(times):
        breaker.failed(now, trial=False)


def test_a_window_forgets_by_tenths_of_its_span() -> None:
    window = Window(10.0, 2)
    for second in range(10):
        window.add(T0 + second, 0)
    assert window.at(T0 + 9) == [10, 0]
    assert window.at(T0 + 12) == [7, 0]
    assert window.at(T0 + 12) == [7, 0]
    assert window.at(T0 + 10_000) == [0, 0]
    window.add(T0 + 10_000, 1)
    assert window.sums == [0, 1]


def test_it_opens_at_the_error_rate_and_not_below() -> None:
    breaker = Breaker(Health(min_requests=4, max_error_rate=0.5))
    breaker.answered(T0, None, trial=False)
    breaker.answered(T0, None, trial=False)
    breaker.failed(T0, trial=False)
    assert breaker.state == "closed"
    breaker.failed(T0, trial=False)
    assert breaker.state == "open"
    assert not breaker.allows(T0 + 9.99)


def test_few_requests_decide_nothing() -> None:
    breaker = Breaker(Health(min_requests=5))
    _failing(breaker, times=4)
    assert breaker.allows(T0)


def test_old_errors_do_not_count() -> None:
    breaker = Breaker(Health(min_requests=5, window_s=30))
    _failing(breaker, times=4)
    breaker.failed(T0 + 40, trial=False)
    assert breaker.state == "closed"


def test_half_open_lets_one_trial_through_and_its_success_closes() -> None:
    breaker = Breaker(Health(open_s=10))
    _failing(breaker)
    later = T0 + 10
    assert breaker.allows(later)
    assert breaker.enter(later)
    assert not breaker.allows(later), "one trial is in flight"
    breaker.answered(later, None, trial=True)
    assert breaker.state == "closed"
    breaker.failed(later, trial=False)
    assert breaker.state == "closed", "the window starts anew"


def test_each_failed_trial_doubles_the_time_up_to_ten_times() -> None:
    breaker, now, opened = Breaker(Health(open_s=1)), T0, list[float]()
    _failing(breaker, now)
    for _ in range(6):
        opened.append(breaker.open_until - now)
        now = breaker.open_until
        assert breaker.enter(now)
        breaker.failed(now, trial=True)
    assert opened == [1, 2, 4, 8, 10, 10]
    now = breaker.open_until
    breaker.enter(now)
    breaker.answered(now, None, trial=True)
    _failing(breaker, now)
    assert breaker.open_until - now == 1, "a recovery starts the doubling anew"


def test_several_trials_must_all_pass() -> None:
    breaker = Breaker(Health(open_s=1, half_open_requests=2))
    _failing(breaker)
    now = T0 + 1
    assert breaker.enter(now)
    assert breaker.allows(now)
    assert breaker.enter(now)
    assert not breaker.allows(now)
    breaker.answered(now, None, trial=True)
    assert breaker.state == "half_open"
    assert not breaker.allows(now)
    breaker.answered(now, None, trial=True)
    assert breaker.state == "closed"


def test_a_trial_whose_caller_left_makes_room_for_another() -> None:
    breaker = Breaker(Health(open_s=1))
    _failing(breaker)
    breaker.enter(T0 + 1)
    breaker.abandoned(trial=True)
    assert breaker.state == "half_open"
    assert breaker.allows(T0 + 1)


def test_requests_sent_before_it_opened_do_not_decide_a_trial() -> None:
    breaker = Breaker(Health(open_s=1))
    _failing(breaker)
    breaker.enter(T0 + 1)
    breaker.answered(T0 + 1, None, trial=False)
    assert breaker.state == "half_open"
    breaker.failed(T0 + 1, trial=False)
    assert breaker.state == "half_open"


def test_slow_answers_open_it_when_more_than_five_percent_are() -> None:
    breaker = Breaker(Health(min_requests=5, max_p95_ttft_ms=100))
    for _ in range(19):
        breaker.answered(T0, 50.0, trial=False)
    breaker.answered(T0, 500.0, trial=False)
    assert breaker.state == "closed", "one of twenty is the 95th percentile itself"
    breaker.answered(T0, 500.0, trial=False)
    assert breaker.state == "open"
    breaker.enter(T0 + 10)
    breaker.answered(T0 + 10, 500.0, trial=True)
    assert breaker.state == "open", "a slow trial has failed"


def test_an_answer_that_broke_off_is_an_error_after_all() -> None:
    breaker = Breaker(Health(min_requests=2, max_error_rate=1.0))
    for _ in range(2):
        breaker.answered(T0, None, trial=False)
        breaker.broke(T0)
    assert breaker.state == "open"
