"""``deposit-token review``: what waits for a person, what was decided, and deciding it.

The checkout carries a decision out and records it; this prints what it says.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from deposit_token_sdk.cli.loading import checkout_of, checkout_option, working

if TYPE_CHECKING:
    from deposit_token_sdk.checkout.flow import Checkout
    from deposit_token_sdk.checkout.store import Decision, Review

MOST_LISTED = 1_000
"""Reviews that ``--all`` lists at most, the newest."""


@click.command("review")
@checkout_option
@click.argument("number", type=click.IntRange(1), required=False)
@click.option("--refund", "verdict", flag_value="refund", help="Send back the money that it is about.")
@click.option("--accept", "verdict", flag_value="accept", help="Keep it; an unpaid order that it covers is fulfilled.")
@click.option("--retry", "verdict", flag_value="retry", help="Ask the bank again, and apply what it says.")
@click.option("--by", metavar="NAME", help="Who decides. It is recorded.")
@click.option("--note", metavar="TEXT", default="", help="Why. It is recorded.")
@click.option("--all", "every", is_flag=True, help="List the decided ones too.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--check", is_flag=True, help="End with 1 if a review is open.")
@click.pass_context
def command(
    context: click.Context,
    spec: str | None,
    number: int | None,
    verdict: str | None,
    by: str | None,
    note: str,
    every: bool,
    as_json: bool,
    check: bool,
) -> None:
    """List what waits for a person's decision, or decide about one.

    \b
        deposit-token review
        deposit-token review 7
        deposit-token review 7 --refund --by "Anna" --note "paid twice"

    A decision is recorded once and never changed. Ends with 0; with 1 if a decision was refused, or if a review is
    open and --check is given.
    """
    if verdict is not None and (number is None or not by):
        raise click.UsageError("To decide, say about which NUMBER, and who you are: --by NAME.")
    if verdict is None and (by or note):
        raise click.UsageError("--by and --note belong to a decision: add --refund, --accept or --retry.")
    with working(checkout_of(spec)) as checkout:
        if number is not None and verdict is not None and by:
            _decide(checkout, number, verdict, by, note, as_json=as_json)
            return
        found = _found(checkout, number, every=every)
    if as_json:
        click.echo(json.dumps({"reviews": [_as_json(*one) for one in found]}, ensure_ascii=False, indent=2))
    else:
        _tell(found, every=every)
    context.exit(1 if check and any(decision is None for _, decision in found) else 0)


def _found(checkout: Checkout, number: int | None, *, every: bool) -> list[tuple[Review, Decision | None]]:
    if number is not None:
        one = checkout.store.review(number)
        if one is None:
            raise click.ClickException(f"There is no review {number}.")
        return [one]
    if every:
        return list(checkout.store.all_reviews(limit=MOST_LISTED))[::-1]
    return [(review, None) for review in checkout.reviews()]


def _decide(checkout: Checkout, number: int, verdict: str, by: str, note: str, *, as_json: bool) -> None:
    from deposit_token_sdk.checkout.store import Verdict  # noqa: PLC0415 - what --help does not need is not loaded

    found = checkout.store.review(number)
    order_id = "" if found is None else found[0].order_id
    before = checkout.store.order(order_id).paid_by
    decision = checkout.resolve(number, Verdict(verdict), by=by, note=note)
    if as_json and found is not None:
        click.echo(json.dumps(_as_json(found[0], decision), ensure_ascii=False, indent=2))
        return
    click.echo(f"Review {number}: {decision.verdict}, by {decision.by}. Recorded.")
    if decision.refund is not None:
        refund = next(one for one in checkout.store.order(order_id).refunds if one.reference == decision.refund)
        click.echo(f"Refund {refund.reference} of {refund.units} token units is {refund.stage.name.lower()}.")
    elif before is None and checkout.store.order(order_id).paid_by is not None:
        click.echo(f"Order {order_id} is paid now.")
    elif decision.verdict is Verdict.ACCEPT:
        click.echo("Nothing else was done: no unpaid order is covered by it.")


def _tell(found: list[tuple[Review, Decision | None]], *, every: bool) -> None:
    from deposit_token_sdk.checkout.review import allowed  # noqa: PLC0415 - as above

    if not found:
        click.echo("No review yet." if every else "Nothing waits for a decision.")
    for review, decision in found:
        order = f"order {review.order_id}" if review.order_id else "no order of ours"
        click.echo(f"{review.number}  {review.reason}  {order}  {_stamp(review.opened_at)}")
        click.echo(f"   {review.detail}")
        if decision is None:
            click.echo(f"   decide: {' or '.join(f'--{verdict}' for verdict in allowed(review))}")
        else:
            note = f": {decision.note}" if decision.note else ""
            click.echo(f"   decided: {decision.verdict}, by {decision.by} at {_stamp(decision.at)}{note}")


def _as_json(review: Review, decision: Decision | None) -> dict[str, Any]:
    from deposit_token_sdk.checkout.review import allowed  # noqa: PLC0415 - as above

    decided = (
        None
        if decision is None
        else {
            "verdict": str(decision.verdict),
            "by": decision.by,
            "note": decision.note,
            "at": _stamp(decision.at),
            "refund": decision.refund,
        }
    )
    return {
        "number": review.number,
        "order_id": review.order_id,
        "reference": review.reference,
        "reason": review.reason,
        "subject": review.subject,
        "detail": review.detail,
        "opened_at": _stamp(review.opened_at),
        "verdicts": [str(verdict) for verdict in allowed(review)],
        "decision": decided,
    }


def _stamp(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
