"""Two windows of unlike traffic: what the mix alone explains is no breach, what is worse for like requests is, and what
has no like is not compared."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from configs.environment.watch import Watch
from infra.vllm.counters import Counted, between
from infra.vllm.strata import Strata
from serve.watch.alike import BOUNDED, LOADED, grouped, likeness, requests, standardise_means, standardise_shares
from serve.watch.compare import compare_window, decide
from tests.support.traffic import asked, counted, simulated
from tunegate import compare_by

pytestmark = pytest.mark.unit
COMPARE, WATCH = compare_by(), Watch()
# No allowance: whoever is as good is at the limit itself.
STRICT = Watch(
    false_alarm=0.1,
    error_rate_increase=0,
    time_to_first_token_ratio=1,
    inter_token_ratio=1,
    empty_increase=0,
    truncated_increase=0,
    length_ratio=1,
)
BAKES = 30
LOOKS = (60, 120, 180)


def in_one_stratum(window: Counted) -> Counted:
    """As if all requests were alike: what comparing means would see."""
    total = next(iter(grouped(window.strata or {}, ()).values()))
    return window.model_copy(update={"strata": {"2 0 5 1": total}})


def outcomes(
    settings: Watch, old_rate: float, mix: dict[str, Any], *, bakes: int = BAKES, pooled: bool = False
) -> Counter[str]:
    """Of so many bakes, each of some looks at what `mix` says of the new window."""
    found: Counter[str] = Counter()
    for bake in range(bakes):
        old = counted(*simulated(bake, 1_500, rate=old_rate))
        new = simulated(10_000 + bake, LOOKS[-1], **mix)
        windows = [(old, counted(*new[:n])) for n in LOOKS]
        if pooled:
            windows = [(in_one_stratum(one), in_one_stratum(other)) for one, other in windows]
        looks = [decide(compare_window(one, other, settings, COMPARE, len(LOOKS)))[0] for one, other in windows]
        found["fail" if "fail" in looks else looks[-1]] += 1
    return found


def test_a_release_that_is_as_good_under_longer_prompts_and_more_load_fails_no_oftener_than_stated() -> None:
    heavier = {"rate": 2.2, "median_bytes": 1_600.0}
    assert outcomes(STRICT, 1.5, heavier, bakes=100)["fail"] <= 100 * STRICT.false_alarm  # 22 of 300, 10 of like ones
    assert outcomes(WATCH, 1.5, heavier)["fail"] == 0
    assert outcomes(STRICT, 1.5, heavier, pooled=True)["fail"] > BAKES / 2, "the mix alone would have condemned it"


def test_a_release_that_is_slower_does_not_hide_behind_shorter_prompts_and_less_load() -> None:
    lighter = {"rate": 1.2, "median_bytes": 800.0, "slow": 1.4}
    settings = STRICT.model_copy(update={"time_to_first_token_ratio": 1.1, "inter_token_ratio": 1.1})
    found = outcomes(settings, 3, lighter)
    assert found["fail"] > BAKES / 2 and found["pass"] == 0, found
    assert outcomes(settings, 3, lighter, pooled=True)["pass"] > BAKES / 2, "by its means alone it is within its limit"


def test_prompts_of_another_kind_are_not_compared_and_the_reason_is_said() -> None:
    old, new = counted(*simulated(1, 400)), counted(*simulated(2, 100, median_bytes=9_000, slow=5))
    outcome, why = decide(compare_window(old, new, WATCH, COMPARE))
    assert outcome == "inconclusive" and "times as long as in the old release's window" in why
    shorter = decide(compare_window(new, old, WATCH, COMPARE))[1]
    assert "prompts are 0.1" in shorter and "bytes a request against" in shorter


def test_answers_that_are_streamed_are_not_held_against_those_that_are_not() -> None:
    old = counted(*(asked(streams=place % 10 == 0) for place in range(400)))
    new = counted(*(asked(streams=place % 10 != 0) for place in range(100)))
    outcome, why = decide(compare_window(old, new, WATCH, COMPARE))
    assert outcome == "pass", why  # forty of the rarer kind are enough to weigh by
    few = counted(*(asked(streams=place % 50 == 0) for place in range(100)))
    outcome, why = decide(compare_window(few, new, WATCH, COMPARE))
    assert outcome == "inconclusive" and "90% of the answers are streamed against 2%" in why


def test_a_release_that_is_slow_fills_itself_up_and_that_excuses_nothing() -> None:
    """The same arrivals: three times as slow it has so many in flight that the old one never had."""
    old, new = counted(*simulated(1, 600, rate=3)), counted(*simulated(2, 200, rate=3, slow=3))
    alike = likeness(old.strata or {}, new.strata or {}, WATCH)
    assert alike.load == "as loaded" and "though as many arrive" in alike.words
    assert decide(compare_window(old, new, WATCH, COMPARE))[0] == "fail"


@pytest.mark.parametrize(("slow", "outcome"), [(1.0, "inconclusive"), (0.6, "pass")])
def test_a_busier_hour_condemns_nobody_and_who_is_quick_in_it_passes(slow: float, outcome: str) -> None:
    old, new = counted(*simulated(1, 600, rate=0.3)), counted(*simulated(2, 200, rate=7, slow=slow))
    found = compare_window(old, new, WATCH, COMPARE)
    assert likeness(old.strata or {}, new.strata or {}, WATCH).load == "busier"
    assert decide(found)[0] == outcome, found
    assert outcome == "pass" or "for it was busier" in decide(found)[1]


@pytest.mark.parametrize(
    ("slow", "is_share", "outcome"), [(1.0, False, "inconclusive"), (1.0, True, "pass"), (9.0, True, "fail")]
)
def test_a_quieter_window_shows_only_what_is_bad_and_a_share_is_quieter_by_itself(
    slow: float, is_share: bool, outcome: str
) -> None:
    old, new = counted(*simulated(1, 600, rate=5)), counted(*simulated(2, 100, rate=0.1, slow=slow))
    assert likeness(old.strata or {}, new.strata or {}, WATCH).load == "quieter"
    assert decide(compare_window(old, new, WATCH, COMPARE, is_share=is_share))[0] == outcome


def test_errors_that_long_prompts_make_in_both_are_no_breach_and_more_of_them_are() -> None:
    """A tenth of the prompts beyond 2 KiB fails; the new release is asked many more of these."""

    def fails(bad: float) -> dict[str, Any]:
        return {"fails": lambda body_bytes: bad if body_bytes > 2_048 else 0.0}

    lenient = Watch(failures_allowed=None)
    old = counted(*simulated(1, 3_000, rate=1, **fails(0.1)))
    for bad, outcome in ((0.1, "fine"), (0.5, "breach")):
        new = counted(*simulated(2, 400, rate=1, median_bytes=2_500, **fails(bad)))
        found = {one.figure: one for one in compare_window(old, new, lenient, COMPARE)}
        assert found["error rate"].outcome == outcome, found["error rate"]
    weighted = standardise_shares(old.strata or {}, new.strata or {}, LOADED, "failed", "requests")
    assert weighted and weighted.old.mean > 3 * old.failed / old.requests, (
        "as often as the new one's users would have had"
    )
    pooled = compare_window(in_one_stratum(old), in_one_stratum(new), lenient, COMPARE)
    assert {one.figure: one.outcome for one in pooled}["error rate"] == "breach"


def test_shorter_bounds_on_answers_are_no_shorter_answers() -> None:
    """Both write as much as they may."""
    half = [asked(max_tokens=bound, tokens=bound, truncated=True) for bound in (16, 200) for _ in range(50)]
    short = [asked(max_tokens=16, tokens=16, truncated=True)] * 50
    assert decide(compare_window(counted(*half), counted(*short), WATCH, COMPARE))[0] == "pass"


STRATUM = st.builds(
    lambda body, flight, streams, first, tokens: asked(
        body_bytes=body, in_flight=flight, streams=streams, first=first, tokens=tokens
    ),
    st.sampled_from([100, 3_000, 50_000]),
    st.sampled_from([1, 3, 20]),
    st.booleans(),
    st.floats(0.01, 5),
    st.integers(0, 40),
)
WINDOW = st.lists(STRATUM, min_size=1, max_size=40).map(lambda tables: counted(*tables).strata or {})


@given(WINDOW, WINDOW)
@settings(max_examples=60)
def test_standardised_means_lie_among_those_of_the_strata_and_weigh_as_the_new_window_does(
    old: Strata, new: Strata
) -> None:
    found = standardise_means(old, new, LOADED, "first")
    if found is None:
        return
    strata = [row[9] / row[8] for row in grouped(old, LOADED).values() if row[8]]
    assert min(strata) - 1e-9 <= found.old.mean <= max(strata) + 1e-9
    assert 0 < found.share <= 1 and found.new.n <= requests(new) and found.old.variance >= 0
    same = standardise_means(old, old, LOADED, "first")
    assert same is None or same.new.mean == pytest.approx(same.old.mean)


@given(WINDOW, WINDOW)
@settings(max_examples=60)
def test_a_standardised_share_counts_no_more_observations_than_there_were(old: Strata, new: Strata) -> None:
    found = standardise_shares(old, new, BOUNDED, "empty", "tokens_n")
    if found:
        assert found.old.n <= sum(row[14] for row in old.values()) + 1e-9 and 0 <= found.old.mean <= 1


@given(st.lists(STRATUM, max_size=20), st.lists(STRATUM, max_size=20))
@settings(max_examples=60)
def test_a_window_holds_exactly_what_came_between_and_a_server_that_began_anew_counts_from_there(
    before: list[Strata], after: list[Strata]
) -> None:
    first, last, only = counted(*before), counted(*before, *after), counted(*after)
    window = between(first, last).strata
    assert window is not None and window.keys() == (only.strata or {}).keys()
    for name, row in (only.strata or {}).items():
        assert window[name] == pytest.approx(row, abs=1e-9)
    assert between(last, first).strata == (first.strata if after else {})
    assert between(first, Counted()).strata is None is between(Counted(), last).strata
