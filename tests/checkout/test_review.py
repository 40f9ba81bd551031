"""What a person decides about a review: carried out once, recorded for good, and never more than the money allows."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import insert
from sqlalchemy.orm import Session

import deposit_token_sdk
from deposit_token_sdk import Money, NotAllowed, Paid, RefundStage
from deposit_token_sdk.checkout.door import _SOMEBODY_ELSES, AUTOMATIC
from deposit_token_sdk.checkout.hooks import Late
from deposit_token_sdk.checkout.review import RULES, allowed
from deposit_token_sdk.checkout.store import Review
from deposit_token_sdk.testing.values import NOON
from tests.checkout.kit import (
    ForgingBank,
    Shop,
    again,
    attempt_of,
    due_of,
    fulfilments,
    refund_of,
    refunds_sent,
)
from tests.checkout.reviewed import ACCEPT, REFUND, RETRY, decide, late, paid_twice, refusal, the_review
from tests.databases import ON_BOTH

# -- the table ---------------------------------------------------------------------------------------------------


def reasons_in_the_code() -> Iterator[str]:
    """The reasons that reviews are opened with, by reading what opens them."""
    at = {"Doubt": 0, "_each": 1, "_park": 3, "_put_up": 2, "Review": 2}
    for path in (Path(deposit_token_sdk.__file__).parent / "checkout").glob("*.py"):
        for call in [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]:
            name = call.func.id if isinstance(call.func, ast.Name) else getattr(call.func, "attr", "")
            if name in at and len(call.args) > at[name] and isinstance(call.args[at[name]], ast.Constant):
                yield call.args[at[name]].value  # type: ignore[attr-defined]  # looked at in the line before
    source = ast.parse(Path(deposit_token_sdk.evidence.__file__).read_text())
    for node in ast.walk(source):
        if (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and node.value.startswith(("other_", "wrong_i"))
        ):
            yield node.value
    yield from ("second_payment", "old_attempt")


def test_there_is_a_rule_for_every_reason_and_none_for_another() -> None:
    assert set(reasons_in_the_code()) | {"proof_not_allowed"} == set(RULES) | _SOMEBODY_ELSES


def test_every_review_can_be_decided_and_each_verdict_once() -> None:
    for reason, rule in RULES.items():
        assert rule.verdicts, reason
        assert len(set(rule.verdicts)) == len(rule.verdicts)


def a_review(reason: str, order_id: str = "A-1") -> Review:
    return Review(order_id, "r1", reason, "subject", "", NOON, 1)


@pytest.mark.parametrize("reason", ["not_json", "missing_field", "a_word_of_a_later_release"])
def test_a_message_that_could_not_be_read_can_be_asked_about_again_or_seen_to(reason: str) -> None:
    assert allowed(a_review(reason)) == (RETRY, ACCEPT)


def test_a_hook_that_failed_is_not_seen_to_by_hand_unless_no_order_is_concerned() -> None:
    assert allowed(a_review("hook_failed")) == (RETRY,)
    assert allowed(a_review("hook_failed", order_id="")) == (RETRY, ACCEPT)


# -- refund --------------------------------------------------------------------------------------------------------


@ON_BOTH
def test_a_second_payment_is_sent_back_and_the_first_one_kept(shop: Shop) -> None:
    attempt = paid_twice(shop)
    decision = decide(shop, "second_payment", REFUND, note="paid twice")
    assert (decision.by, decision.note, decision.refund) == ("anna", "paid twice", refund_of(shop).reference)
    assert refunds_sent(shop, attempt) == [due_of(attempt)]
    assert shop.bank_received(attempt.reference) == due_of(attempt)
    assert shop.fulfilled() == [("A-1", attempt.reference)]
    assert shop.reviews() == []
    assert [made for _, made in shop.checkout.store.all_reviews("A-1")] == [decision]


def test_of_a_surplus_only_the_surplus_is_sent_back(shop: Shop) -> None:
    attempt = shop.start()
    shop.bank.control.pay(attempt.reference, units=due_of(attempt) + 10)
    shop.until(lambda: shop.reviews() == ["overpaid"])
    decide(shop, "overpaid", REFUND)
    assert refunds_sent(shop, attempt) == [10]
    assert shop.bank_received(attempt.reference) == due_of(attempt)


def test_a_surplus_that_came_in_two_parts_is_counted_to_the_last_of_them(shop: Shop) -> None:
    shop.lose_webhooks()
    attempt = shop.start()
    for units in (due_of(attempt) - 5, 15):
        shop.bank.control.pay(attempt.reference, units=units)
    shop.checkout.refresh("A-1")
    decide(shop, "overpaid", REFUND)
    assert refunds_sent(shop, attempt) == [10]


def test_a_surplus_and_a_second_payment_are_each_sent_back_for_themselves(shop: Shop) -> None:
    shop.lose_webhooks()
    attempt = shop.start()
    for units in (due_of(attempt) + 10, due_of(attempt)):
        shop.bank.control.pay(attempt.reference, units=units)
        shop.checkout.refresh("A-1")
        shop.checkout.reconcile()
    decide(shop, "overpaid", REFUND)
    decide(shop, "second_payment", REFUND)
    assert refunds_sent(shop, attempt) == [10, due_of(attempt)]
    assert shop.bank_received(attempt.reference) == due_of(attempt)


def test_a_late_payment_is_sent_back_whole_and_the_order_can_be_paid_anew(shop: Shop) -> None:
    attempt = late(shop)
    decide(shop, "late", REFUND)
    assert shop.bank_received(attempt.reference) == 0
    assert shop.fulfilled() == []
    assert shop.start().reference != attempt.reference


def test_the_rest_of_a_late_payment_of_which_euros_were_sent_back_is_sent_back_to_the_unit(shop: Shop) -> None:
    attempt = late(shop)
    shop.checkout.refund("A-1", Money("10.00", "EUR"), request="page-1", reference=attempt.reference)
    decide(shop, "late", REFUND)
    assert shop.bank_received(attempt.reference) == 0


def test_a_second_payment_is_sent_back_whole_beside_parts_of_the_price_and_those_still_add_up(shop: Shop) -> None:
    attempt = paid_twice(shop)
    shop.checkout.refund("A-1", Money("28.50", "EUR"), request="page-1")
    decide(shop, "second_payment", REFUND)
    assert refunds_sent(shop, attempt)[1] == due_of(attempt)
    shop.checkout.refund("A-1", Money("100.00", "EUR"), request="page-2")
    assert shop.bank_received(attempt.reference) == 0


def test_what_came_for_an_invoice_that_ended_short_is_sent_back(shop: Shop) -> None:
    shop.lose_webhooks()
    attempt = shop.start()
    shop.bank.control.decline(attempt.reference)
    shop.bank.control.pay(attempt.reference, units=100)
    shop.checkout.refresh("A-1")
    shop.checkout.reconcile()
    decide(shop, "partly_paid", REFUND)
    assert refunds_sent(shop, attempt) == [100]
    assert shop.bank_received(attempt.reference) == 0


def test_money_on_an_old_attempt_is_sent_back_while_the_new_one_stays_to_be_paid(shop: Shop) -> None:
    old = shop.start()
    new = shop.start(content="basket-2")
    shop.bank.control.pay(old.reference)
    shop.until(lambda: shop.reviews() == ["old_attempt"])
    decide(shop, "old_attempt", REFUND)
    assert shop.bank_received(old.reference) == 0
    assert attempt_of(shop, new.reference).ended is None


def test_a_failed_refund_is_sent_again_as_another_one(shop: Shop) -> None:
    attempt = shop.buy()
    first = shop.checkout.refund("A-1", Money("20.00", "EUR"), request="page-1")
    shop.until(lambda: refund_of(shop).stage is RefundStage.DONE)
    bank_id = refund_of(shop).bank_id
    assert bank_id is not None
    shop.bank.control.fail_refund(bank_id)
    shop.until(lambda: shop.reviews() == ["refund_failed"])
    decision = decide(shop, "refund_failed", REFUND)
    assert decision.refund != first.reference
    assert shop.bank_received(attempt.reference) == due_of(attempt) - first.units


def test_money_sent_back_by_hand_before_is_not_sent_back_again(shop: Shop) -> None:
    attempt = paid_twice(shop)
    shop.checkout.refund("A-1", due_of(attempt), request="page-1")
    number = the_review(shop, "second_payment").number
    assert refusal(shop, number, REFUND) == "refund_unclear"
    assert shop.bank_received(attempt.reference) == due_of(attempt)
    assert shop.checkout.resolve(number, ACCEPT, by="anna", note="sent back by hand").verdict is ACCEPT
    assert shop.reviews() == []


def test_what_is_sent_back_already_leaves_nothing_to_decide_but_to_accept(shop: Shop) -> None:
    attempt = late(shop)
    shop.checkout.refund("A-1", due_of(attempt), request="page-1", reference=attempt.reference)
    assert refusal(shop, the_review(shop, "late").number, REFUND) == "nothing_to_refund"
    assert decide(shop, "late", ACCEPT).verdict is ACCEPT
    assert shop.fulfilled() == []


# -- accept --------------------------------------------------------------------------------------------------------


@ON_BOTH
def test_an_accepted_late_payment_fulfils_the_order_with_the_banks_own_word(shop: Shop) -> None:
    told: list[Paid] = []
    attempt = late(shop)

    @shop.checkout.on_paid
    def fulfil(paid: Paid, session: Session) -> None:
        told.append(paid)
        session.execute(insert(fulfilments).values(order_id=paid.order_id, reference=paid.reference))

    decide(shop, "late", ACCEPT)
    assert shop.fulfilled() == [("A-1", attempt.reference)]
    assert shop.checkout.view("A-1").paid
    assert [one.received for one in told] == [due_of(attempt)]
    assert [confirmation.units for confirmation in told[0].confirmations] == [due_of(attempt)]
    with pytest.raises(NotAllowed) as refused:
        shop.start()
    assert refused.value.reason == "order_paid"


def test_an_accepted_payment_of_an_old_attempt_ends_the_new_one_here_and_at_the_bank(shop: Shop) -> None:
    old = shop.start()
    new = shop.start(content="basket-2")
    shop.bank.control.pay(old.reference)
    shop.until(lambda: shop.reviews() == ["old_attempt"])
    decide(shop, "old_attempt", ACCEPT)
    assert shop.fulfilled() == [("A-1", old.reference)]
    assert attempt_of(shop, new.reference).ended == "superseded"
    assert shop.bank.control.invoice(new.reference)["status"] == "cancelled"


def test_two_late_halves_are_accepted_once_and_together(shop: Shop) -> None:
    old = shop.start()
    shop.start(content="basket-2")
    for units in (due_of(old) // 2, due_of(old)):
        shop.bank.control.pay(old.reference, units=units)
    shop.until(lambda: sorted(shop.reviews()) == ["old_attempt", "old_attempt", "partly_paid"])
    first, second = [one for one in shop.checkout.reviews() if one.reason == "old_attempt"]
    shop.checkout.resolve(first.number, ACCEPT, by="anna")
    assert shop.fulfilled() == [("A-1", old.reference)]
    assert refusal(shop, second.number, REFUND) == "review_decided"
    assert shop.reviews() == ["overpaid"]
    decide(shop, "overpaid", REFUND)
    assert shop.bank_received(old.reference) == due_of(old)


def test_too_little_money_is_accepted_as_it_is_and_fulfils_nothing(shop: Shop) -> None:
    old = shop.start()
    shop.start(content="basket-2")
    shop.bank.control.pay(old.reference, units=due_of(old) - 1)
    shop.until(lambda: sorted(shop.reviews()) == ["old_attempt", "partly_paid"])
    decide(shop, "old_attempt", ACCEPT)
    decide(shop, "partly_paid", ACCEPT)
    assert shop.fulfilled() == []
    assert shop.reviews() == []
    assert shop.bank_received(old.reference) == due_of(old) - 1


def test_a_late_payment_of_which_something_was_sent_back_fulfils_nothing(shop: Shop) -> None:
    attempt = late(shop)
    shop.checkout.refund("A-1", 1, request="page-1", reference=attempt.reference)
    decide(shop, "late", ACCEPT)
    assert shop.fulfilled() == []


def test_an_accepted_second_payment_is_kept_and_the_order_fulfilled_no_second_time(shop: Shop) -> None:
    attempt = paid_twice(shop)
    decide(shop, "second_payment", ACCEPT, note="credit for the next order")
    assert shop.fulfilled() == [("A-1", attempt.reference)]
    assert shop.bank_received(attempt.reference) == 2 * due_of(attempt)
    assert shop.reviews() == []


def test_what_another_payment_was_quicker_than_becomes_a_second_payment_to_decide(shop: Shop) -> None:
    old = shop.start()
    new = shop.start(content="basket-2")
    shop.bank.control.pay(old.reference)
    shop.until(lambda: shop.reviews() == ["old_attempt"])
    shop.bank.control.pay(new.reference)
    shop.until(lambda: shop.checkout.view("A-1").paid)
    decide(shop, "old_attempt", ACCEPT)
    assert shop.fulfilled() == [("A-1", new.reference)]
    assert shop.reviews() == ["second_payment"]
    decide(shop, "second_payment", REFUND)
    assert (shop.bank_received(old.reference), shop.bank_received(new.reference)) == (0, due_of(new))


def test_a_hook_that_raises_leaves_the_review_open_and_nothing_recorded(shop: Shop) -> None:
    late(shop)
    broken = again(shop)

    @broken.on_paid
    def fulfil(_: Paid, session: Session) -> None:
        session.execute(insert(fulfilments).values(order_id="A-1", reference="half done"))
        raise RuntimeError

    with pytest.raises(NotAllowed) as refused:
        decide(shop, "late", ACCEPT, checkout=broken)
    assert refused.value.reason == "hook_failed"
    assert shop.fulfilled() == []
    assert shop.reviews() == ["late"]
    decide(shop, "late", ACCEPT)
    assert len(shop.fulfilled()) == 1


def test_a_refund_that_the_shop_wanted_and_the_bank_refused_can_be_turned_into_a_delivery(shop: Shop) -> None:
    shop.checkout.on_late(lambda _, __: Late.REFUND)
    attempt = late(shop)
    shop.bank.control.fail_refund(str(refund_of(shop).bank_id))
    shop.checkout.reconcile()
    decide(shop, "refund_failed", ACCEPT)
    assert shop.fulfilled() == [("A-1", attempt.reference)]


# -- retry ---------------------------------------------------------------------------------------------------------


def hook_that_fails(shop: Shop) -> list[RuntimeError]:
    """`on_paid` raises as long as this list holds something."""
    troubles = [RuntimeError("the warehouse is closed")]

    @shop.checkout.on_paid
    def fulfil(paid: Paid, session: Session) -> None:
        session.execute(insert(fulfilments).values(order_id=paid.order_id, reference=paid.reference))
        if troubles:
            raise troubles[0]

    return troubles


def unfulfilled(shop: Shop) -> list[RuntimeError]:
    shop.lose_webhooks()
    troubles = hook_that_fails(shop)
    shop.bank.control.pay(shop.start().reference)
    shop.checkout.refresh("A-1")
    return troubles


@ON_BOTH
def test_a_retry_after_the_hook_was_mended_fulfils_and_is_recorded_under_its_name(shop: Shop) -> None:
    troubles = unfulfilled(shop)
    number = the_review(shop, "hook_failed").number
    assert refusal(shop, number, RETRY) == "hook_failed"
    assert (shop.fulfilled(), shop.reviews()) == ([], ["hook_failed"])
    troubles.clear()
    decision = decide(shop, "hook_failed", RETRY, note="mended")
    assert (decision.by, decision.note) == ("anna", "mended")
    assert len(shop.fulfilled()) == 1
    assert shop.decided() == [("hook_failed", "retry", "anna")]


def test_a_failed_hook_that_succeeds_by_itself_closes_its_own_review(shop: Shop) -> None:
    troubles = unfulfilled(shop)
    troubles.clear()
    shop.checkout.reconcile()
    assert shop.reviews() == []
    assert shop.decided() == [("hook_failed", "retry", AUTOMATIC)]


def test_a_webhook_that_is_delivered_again_closes_the_review_of_its_first_delivery(shop: Shop) -> None:
    troubles = hook_that_fails(shop)
    attempt = shop.start()
    shop.bank.control.pay(attempt.reference)
    shop.until(lambda: shop.reviews() == ["hook_failed"])
    troubles.clear()
    (message,) = [one for one in shop.bank.control.webhooks(attempt.reference) if one["type"] == "invoice.settled"]
    shop.bank.control.resend(message["id"])
    shop.until(lambda: shop.checkout.view("A-1").paid)
    assert shop.decided() == [("hook_failed", "retry", AUTOMATIC)]


def test_a_failed_hook_of_one_order_is_not_closed_by_the_news_of_another(shop: Shop) -> None:
    unfulfilled(shop)
    again(shop)
    second = shop.start("A-2")
    shop.bank.control.decline(second.reference)
    shop.checkout.refresh("A-2")
    assert attempt_of(shop, second.reference).ended == "cancelled"
    assert shop.reviews() == ["hook_failed"]


def test_a_failed_hook_cannot_be_accepted_as_it_is(shop: Shop) -> None:
    unfulfilled(shop)
    assert refusal(shop, the_review(shop, "hook_failed").number, ACCEPT) == "verdict_not_allowed"


def test_a_statement_that_did_not_fit_is_closed_by_the_banks_own_answer(bank_of_ours: ForgingBank) -> None:
    shop, bank = bank_of_ours.shop, bank_of_ours
    assert bank.deliver(bank.event(bank.state(bank.settlement(quote_digest="AAAA")))) == (200, "other_quote")
    assert (shop.fulfilled(), shop.reviews()) == ([], ["other_quote"])
    shop.bank.control.pay(bank.attempt.reference)
    decide(shop, "other_quote", RETRY)
    assert shop.fulfilled() == [("A-1", bank.attempt.reference)]
    assert shop.decided() == [("other_quote", "retry", "anna")]


def test_news_of_a_reference_that_the_database_has_lost_can_be_seen_to_but_not_asked_about(
    bank_of_ours: ForgingBank,
) -> None:
    shop, bank = bank_of_ours.shop, bank_of_ours
    lost = f"{bank.attempt.reference[:8]}{'x' * 18}"
    body = bank.event(bank.state(bank.settlement(reference=lost)), reference=lost)
    assert bank.deliver(body) == (200, "unknown_reference")
    assert refusal(shop, the_review(shop, "unknown_reference").number, RETRY) == "nothing_to_ask"
    assert refusal(shop, the_review(shop, "unknown_reference").number, REFUND) == "verdict_not_allowed"
    decide(shop, "unknown_reference", ACCEPT, note="booked by hand")
    assert (shop.fulfilled(), shop.reviews()) == ([], [])


def test_a_short_payment_stays_open_until_the_rest_has_paid_the_order(shop: Shop) -> None:
    shop.lose_webhooks()
    attempt = shop.start()
    shop.bank.control.decline(attempt.reference)
    shop.bank.control.pay(attempt.reference, units=100)
    shop.checkout.refresh("A-1")
    shop.checkout.reconcile()
    assert refusal(shop, the_review(shop, "partly_paid").number, RETRY) == "review_unchanged"
    assert shop.reviews() == ["partly_paid"]
