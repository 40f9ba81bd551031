"""A run's choices: all of them from the seed, and none of what is to be shown left out."""

from __future__ import annotations

from tests.torture import plan


def test_a_seed_repeats_the_choices_and_another_seed_makes_others() -> None:
    for choose in (plan.purchases, plan.events):
        assert choose(7, 100) == choose(7, 100)
        assert choose(7, 100) != choose(8, 100)
    first, again = (plan.purchases(7, 3)[2].dice().random() for _ in range(2))
    assert first == again


def test_a_run_kills_every_part_and_moves_the_clock_however_short_it_is() -> None:
    for count in (1, 25, 1000):
        events = plan.events(3, count)
        assert {part for event in events for part in event.kills} == set(plan.PARTS)
        assert any(event.seconds for event in events)
        assert all(event.after < max(count, 2) for event in events)


def test_a_thousand_purchases_see_each_part_killed_six_times_or_more() -> None:
    killed = [part for event in plan.events(5, 1000) for part in event.kills]
    assert all(killed.count(part) >= 6 for part in plan.PARTS)


def test_every_kind_of_purchase_comes_up_in_forty() -> None:
    assert {purchase.kind for purchase in plan.purchases(11, 40)} == set(plan.KINDS)


def test_the_price_of_a_purchase_is_one_that_the_bank_quotes_within_the_shops_ceiling() -> None:
    for purchase in plan.purchases(2, 200):
        whole = int(purchase.amount.partition(".")[0])
        assert whole >= (3_000 if purchase.currency == "JPY" else 20)
