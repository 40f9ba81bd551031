"""The shop keeper's desk: reviews that wait for a decision, decisions made, what was not sent, and how all of it fares.

A decision is recorded under a name and never changed; what it does is the checkout's affair. Nothing here edits a row.
"""

from __future__ import annotations

from typing import Final

from flask import Blueprint, current_app, flash, redirect, render_template, request, session, url_for
from werkzeug.wrappers import Response

from deposit_token_sdk import BankRefused, DepositTokenError, InvalidInput, NotAllowed, Unsupported
from deposit_token_sdk.checkout.review import Share, allowed, rule_of, verdict_of
from deposit_token_sdk.checkout.store import Review, Verdict
from examples.flask_shop.admin import login_required
from examples.flask_shop.payments import payments

desk = Blueprint("desk", __name__, url_prefix="/admin")

NEWEST: Final = 200
"""How many decisions, and how many messages that were not sent, are shown."""

SENT_BACK: Final = {
    Share.ALL: "Send the money back",
    Share.MOVEMENT: "Send this payment back",
    Share.SURPLUS: "Send the surplus back",
    Share.AGAIN: "Send the refund again",
}
DONE: Final = {
    Verdict.REFUND: "sent back",
    Verdict.ACCEPT: "accepted",
    Verdict.RETRY: "asked again",
}


@desk.app_template_global()
def verdicts(review: Review) -> dict[str, str]:
    """What can be decided about a review, each in the words of its button; the first is the one to offer."""
    rule = rule_of(review)
    words = {
        Verdict.REFUND: SENT_BACK[rule.share],
        Verdict.ACCEPT: "Accept, and deliver what the money covers" if rule.fulfils else "Accept as it is",
        Verdict.RETRY: "Ask the bank again",
    }
    return {verdict.value: words[verdict] for verdict in allowed(review)}


@desk.app_template_filter()
def done_word(verdict: Verdict) -> str:
    """What was decided."""
    return DONE[verdict]


@desk.post("/reviews/<int:number>")
@login_required
def decide(number: int) -> Response:
    """Decide about a review, under the name that the keeper gives. Twice is once: the first decision stands."""
    by, note = request.form.get("by", "").strip(), request.form.get("note", "").strip()
    session["keeper"] = by
    try:
        made = payments().checkout.resolve(number, verdict_of(request.form.get("verdict", "")), by=by, note=note)
    except (NotAllowed, InvalidInput, Unsupported) as error:
        flash(f"Nothing was decided now. {error}", "warning")
    except BankRefused as error:
        flash(f"It was decided, but the bank refused: {error}", "warning")
    except DepositTokenError as error:  # no answer, or one that cannot be believed
        current_app.logger.warning("Review %s could not be decided: %s", number, error)
        flash("The bank gave no answer that settles it. Look again in a moment.", "warning")
    else:
        flash(f"Review {number}: {DONE[made.verdict]}, by {made.by}.", "note")
    return redirect(url_for("admin.index"), 303)


@desk.get("/decisions")
@login_required
def decisions() -> str:
    """What was decided, the newest first."""
    made = [(review, made) for review, made in payments().store.all_reviews(limit=NEWEST) if made is not None]
    return render_template("admin/decisions.html", decided=made)


@desk.get("/health")
@login_required
def health() -> str:
    checkout = payments().checkout
    return render_template("admin/health.html", health=checkout.health(), dead=checkout.outbox.dead(NEWEST))


@desk.get("/backing")
@login_required
def backing() -> str:
    """What the bank says is behind each of its tokens, asked now."""
    return render_template("admin/backing.html", words=payments().backings())


@desk.post("/outbox")
@login_required
def send_again() -> Response:
    """Have a message that was given up tried again, by the worker's next round."""
    key = request.form.get("key", "")
    if payments().checkout.outbox.send_again(key):
        flash(f"{key} is sent again by the worker's next round.", "note")
    else:
        flash(f"{key} does not wait for that: it was sent, or is being sent again.", "warning")
    return redirect(url_for("desk.health"), 303)
