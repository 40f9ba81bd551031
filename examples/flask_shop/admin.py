"""The shop keeper's pages: orders, what must be looked at, and refunds, behind one password."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from attrs import frozen
from flask import Blueprint, Flask, abort, current_app, flash, redirect, render_template, request, session, url_for
from sqlalchemy import select
from werkzeug.security import check_password_hash, generate_password_hash
from werkzeug.wrappers import Response

from deposit_token_sdk import (
    Attempt,
    BankRefused,
    BankUnavailable,
    DepositTokenError,
    InvalidInput,
    Money,
    NotAllowed,
    RefundStage,
    Unsupported,
)
from deposit_token_sdk.checkout.store import RefundRecord
from deposit_token_sdk.money import units_of
from examples.flask_shop import orders
from examples.flask_shop.models import Order, db
from examples.flask_shop.payments import ASK_EVERY, Pace, payments

admin = Blueprint("admin", __name__, url_prefix="/admin")

P = ParamSpec("P")
R = TypeVar("R")

MOST_AT_ONCE = 50
"""How many payments the bank is asked about while the keeper waits; the next click goes on with the others."""
NOTED = {
    "unreachable": "The bank cannot be reached at the moment. The refund is noted and will be sent as soon as the bank "
    "answers: do not repeat it.",
    "asking": "The bank has not answered yet. The refund is noted, and the bank is being asked about it: do not repeat "
    "it.",
    "reused": "This form was sent before with another amount. That refund stands, and nothing more was sent back: for "
    "another one use the form below.",
}

_tries = Pace(1.0)
_looks = Pace(ASK_EVERY)


@frozen
class Received:
    """One attempt as the keeper sees it: what can still be sent back, in token units and as a part of the price.

    `price_left` is None where the price was not paid whole, nothing of it is left, or earlier refunds were asked in
    the token.
    """

    attempt: Attempt
    refunds: tuple[RefundRecord, ...]
    units_left: int
    price_left: Money | None


def _received(attempt: Attempt, refunds: tuple[RefundRecord, ...]) -> Received:
    made = tuple(refund for refund in refunds if refund.attempt == attempt.reference)
    units, standing = payments().checkout.refundable(attempt.reference), attempt.standing
    whole = units > 0 and standing is not None and standing.received >= standing.due
    counting = [refund for refund in made if refund.stage.counts]
    return Received(attempt, made, units, _price_left(attempt.price, counting) if whole else None)


def _price_left(price: Money, counting: list[RefundRecord]) -> Money | None:
    asked = [refund.price for refund in counting if refund.price is not None]
    left = price - sum(asked, Money(0, price.currency))
    return left if len(asked) == len(counting) and left.amount > 0 else None


def set_password(app: Flask, password: str) -> None:
    """Keep only the password's hash; without a password nobody gets in."""
    app.config["ADMIN_HASH"] = generate_password_hash(password) if password else ""


def _seal() -> str:
    """What a logged-in session holds. It changes with the password, so that a new one logs everybody out."""
    return hashlib.sha256(str(current_app.config["ADMIN_HASH"]).encode()).hexdigest()


def login_required(page: Callable[P, R]) -> Callable[P, R | Response]:
    """Send who is not logged in to the login page."""

    @functools.wraps(page)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R | Response:
        if not current_app.config["ADMIN_HASH"] or session.get("admin") != _seal():
            return redirect(url_for("admin.login"), 303)
        return page(*args, **kwargs)

    return guarded


@admin.get("/login")
def login() -> str:
    return render_template("admin/login.html", closed=not current_app.config["ADMIN_HASH"])


@admin.post("/login")
def log_in() -> Response:
    known = str(current_app.config["ADMIN_HASH"])
    if not _tries.allows(request.remote_addr or ""):
        flash("One try a second. Please wait a moment.", "warning")
    elif known and check_password_hash(known, request.form.get("password", "")):
        session["admin"] = _seal()
        return redirect(url_for("admin.index"), 303)
    else:
        flash("That is not the password.", "warning")
    return redirect(url_for("admin.login"), 303)


@admin.post("/logout")
def log_out() -> Response:
    session.pop("admin", None)
    return redirect(url_for("admin.login"), 303)


@admin.get("")
@login_required
def index() -> str:
    return _orders()


def _orders(**more: object) -> str:
    newest = db.session.scalars(select(Order).order_by(Order.created_at.desc()).limit(200))
    checkout = payments().checkout
    told = [one for one in checkout.health().problems if one.reason != "reviews_open"]  # these are listed anyway
    return render_template("admin/index.html", orders=list(newest), reviews=checkout.reviews(), problems=told, **more)


@admin.post("/ask")
@login_required
def ask() -> str:
    """Ask the bank about everything open, as the `reconcile` command does. Once more does no harm."""
    done = payments().checkout.reconcile(limit=MOST_AT_ONCE)
    failed = [(payments().store.attempt(reference), reason) for reference, reason in done.failed]
    return _orders(done=done, failed=failed, more=done.asked == MOST_AT_ONCE)


@admin.get("/orders/<order_id>")
@login_required
def order(order_id: str) -> str:
    found = _order(order_id)
    view = payments().ask(order_id) if _looks.allows(order_id) else payments().checkout.view(order_id)
    store = payments().store
    attempts, reviewed = view.attempts, store.all_reviews(order_id)
    return render_template(
        "admin/order.html",
        received=[_received(attempt, view.refunds) for attempt in attempts],
        quotes={attempt.reference: attempt.quote for attempt in attempts},
        confirmations=store.evidence(order_id),
        reviews=[review for review, made in reviewed if made is None],
        decided=[(review, made) for review, made in reviewed if made is not None],
        **orders.page(found, view),
    )


@admin.post("/orders/<order_id>/refund")
@login_required
def refund(order_id: str) -> Response:
    """Send money back. The form's one-time reference makes a double click one refund."""
    attempt = payments().store.attempt(request.form.get("attempt", ""))
    if attempt is None or attempt.order_id != _order(order_id).id or attempt.quote is None:
        abort(404, "There is no such payment.")
    once = request.form.get("once", "")
    try:
        asked = _asked(attempt, attempt.quote.decimals)
        made = payments().checkout.refund(order_id, asked, request=once, reference=attempt.reference)
    except (NotAllowed, InvalidInput, Unsupported) as error:
        flash(NOTED["reused"] if error.reason == "request_reused" else f"Nothing was sent back: {error}", "warning")
    except BankRefused as error:
        flash(f"The bank refused, and nothing was sent back: {error}", "warning")
    except BankUnavailable:
        flash(NOTED["unreachable"], "note")
    except DepositTokenError as error:  # OutcomeUnknown, or an answer that cannot be believed: the bank will be asked
        current_app.logger.warning("A refund of order %s is unfinished: %s", order_id, error)
        flash(NOTED["asking"], "note")
    else:
        noted = made.stage in (RefundStage.REQUESTED, RefundStage.UNKNOWN)
        flash(NOTED["asking"] if noted else f"Refund {made.reference} is {made.stage.name.lower()}.", "note")
    return redirect(url_for("admin.order", order_id=order_id), 303)


def _asked(attempt: Attempt, decimals: int) -> int | Money:
    """The amount in the form: all that is left, or an amount of the token or of the price's currency.

    The page names what "all" was when it was shown, so that the same form sent twice asks for the same.
    """
    whole = "all" in request.form
    amount = request.form.get("whole" if whole else "amount", "").strip()
    unit = request.form.get("whole_unit" if whole else "unit")
    if unit == "token":
        return units_of(amount, decimals)
    return Money(amount, attempt.price.currency)


def _order(order_id: str) -> Order:
    found = db.session.get(Order, order_id)
    if found is None:
        abort(404, "There is no such order.")
    return found
