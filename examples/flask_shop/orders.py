"""Orders: placing one, and what a buyer is told about it."""

from __future__ import annotations

import secrets
from enum import StrEnum
from typing import TypedDict

from flask import session
from sqlalchemy import select

from deposit_token_sdk import Attempt, OrderView, RefundStage, Status
from deposit_token_sdk.models import Quote, StatementKind
from examples.flask_shop import basket, invoice
from examples.flask_shop.languages import N_, gettext, token_number, tokens
from examples.flask_shop.models import Content, Line, Order, db, insert, new_content
from examples.flask_shop.payments import payments

_LETTERS = "23456789ABCDEFGHJKMNPQRSTVWXYZ"
_REMEMBERED = 20


class Situation(StrEnum):
    """What the buyer needs to know. "Failed" is not among them: what is not known to have ended is asked about."""

    UNSTARTED = "unstarted"
    ASKING = "asking"
    WAITING = "waiting"
    NEW_TOTAL = "new_total"
    SHORT = "short"
    COMING = "coming"
    PAID = "paid"
    CHECKING = "checking"
    RETURNED = "returned"
    DECLINED = "declined"
    EXPIRED = "expired"

    @property
    def final(self) -> bool:
        """Whether the page need not look again."""
        return self in (Situation.PAID, Situation.RETURNED)


TO_PAY = (Situation.WAITING, Situation.SHORT)
LOCKED = (*TO_PAY, Situation.NEW_TOTAL)

STATES = {"open": N_("open"), "paid": N_("paid"), "returned": N_("taken back by the bank")}
STAGES = {
    RefundStage.REQUESTED: N_("asked for"),
    RefundStage.UNKNOWN: N_("asked for"),
    RefundStage.PENDING: N_("on its way"),
    RefundStage.DONE: N_("done"),
    RefundStage.FAILED: N_("failed"),
    RefundStage.CANCELLED: N_("cancelled"),
}
KINDS = {
    StatementKind.SETTLEMENT: N_("settlement"),
    StatementKind.REFUND: N_("refund"),
    StatementKind.RETURN: N_("return"),
}


def state_word(state: str) -> str:
    """How the list of orders calls it."""
    return gettext(STATES.get(state, state))


def stage_word(stage: RefundStage) -> str:
    """How far a refund has come, to the buyer."""
    return gettext(STAGES[stage])


def kind_word(kind: StatementKind) -> str:
    """What the bank's statement is about."""
    return gettext(KINDS[kind])


def situation(view: OrderView) -> Situation:
    """The one word for how an order stands, read from what the bank has shown."""
    attempt = view.attempt
    standing = attempt.standing if attempt else None
    if view.paid:
        back = standing is not None and standing.status is Status.RETURNED
        return Situation.RETURNED if back else Situation.PAID
    if attempt is None or standing is None:
        return Situation.ASKING if view.unknown else Situation.UNSTARTED
    if standing.received >= standing.due or standing.conflicts:
        return Situation.CHECKING
    if standing.money_on_its_way:
        return Situation.COMING
    if attempt.ended or attempt.invoice is None:
        return _ended(view, standing.status, short=bool(standing.underpaid))
    if standing.underpaid:
        return Situation.SHORT
    return Situation.ASKING if view.unknown else Situation.WAITING


def _ended(view: OrderView, status: Status, *, short: bool) -> Situation:
    if view.unknown:
        return Situation.ASKING
    if short:
        return Situation.CHECKING
    return Situation.DECLINED if status is Status.CANCELLED else Situation.EXPIRED


class Page(TypedDict):
    """What the templates of an order are given. `mark` changes whenever there is something new to say.

    `before` is the price that the buyer agreed to before the present one, None for the first. `amount_due` is what is
    still to be paid, `amount_number` the same without the token, as a bank's form takes it.
    """

    order: Order
    view: OrderView
    attempt: Attempt | None
    content: Content
    situation: Situation
    mark: str
    payable: invoice.Payable | None
    lock: invoice.Lock | None
    before: Quote | None
    amount_due: str
    amount_number: str
    collects: bool


def page(order: Order, view: OrderView) -> Page:
    """An order as it is shown: in the content that is being paid, or was, and not in one that came after."""
    attempt, word, before = view.attempt, situation(view), None
    if attempt and attempt.quote and word is Situation.WAITING:
        agreed = invoice.agreements(order.id)
        before = invoice.agreed_before(payments().store.order(order.id).attempts, attempt, agreed)
        if before and before.due != attempt.quote.due and attempt.reference not in agreed:
            word = Situation.NEW_TOTAL
    standing = attempt.standing if attempt else None
    content = order.content(attempt.content if attempt and not order.paid else None)
    mark = f"{word} {attempt.reference if attempt else ''} {standing.received if standing else 0}"
    quote = attempt.quote if attempt else None
    due = (standing.underpaid or standing.due) if standing else 0
    return Page(
        order=order,
        view=view,
        attempt=attempt,
        content=content,
        situation=word,
        mark=mark,
        payable=invoice.payable(attempt) if word in TO_PAY else None,
        lock=invoice.lock(quote) if quote and word in LOCKED else None,
        before=before,
        amount_due=tokens(due, quote) if quote else "",
        amount_number=token_number(due, quote) if quote else "",
        collects=payments().collects,
    )


def ticket() -> tuple[str, str]:
    """Id and address of the order that this visitor is placing. Made once, so that a double click is one order."""
    known = session.get("order")
    if not known:
        known = ["".join(secrets.choice(_LETTERS) for _ in range(8)), secrets.token_urlsafe(18)]
        session["order"] = known
    return known[0], known[1]


def part_with_ticket() -> None:
    """The next checkout makes an order of its own."""
    session.pop("order", None)


def place(lines: list[Line], country: str, token: str) -> Order:
    """Write the visitor's order as it now is, and commit. A content it had before is kept beside the new one.

    An order that is no longer open stays what it was when it was paid: look at its state.
    """
    order_id, address = ticket()
    content = new_content(lines)
    asked = {"country": country, "token": token, "latest": content.digest}
    db.session.rollback()  # what was read so far is done with: SQLite wants the write to come first
    db.session.execute(
        insert(Order)
        .values(id=order_id, address=address, **asked)
        .on_conflict_do_update(index_elements=[Order.id], set_=asked, where=Order.state == "open")
    )
    order = db.session.get_one(Order, order_id, populate_existing=True)
    if order.state == "open" and all(known.digest != content.digest for known in order.contents):
        order.contents.append(content)
    db.session.commit()
    _remember(address)
    return order


def stay_with(order: Order, attempt: Attempt | None) -> None:
    """The order was to change and could not: it is again what is being paid."""
    if attempt is not None:
        order.latest, order.token, order.country = attempt.content, attempt.token, attempt.buyer_country
        db.session.commit()


def close(order: Order) -> None:
    """A paid order leaves the visitor's hands: the ticket is used up, and so is the basket it was made from."""
    if order.paid is None or session.get("order", [None])[0] != order.id:
        return
    part_with_ticket()
    if not basket_differs(order):
        basket.empty()


def basket_differs(order: Order) -> bool:
    """Whether the basket holds something else than what was paid."""
    chosen = basket.choices()
    return bool(chosen) and new_content(basket.lines(chosen)).digest != order.paid


def _remember(address: str) -> None:
    others = [known for known in session.get("orders", []) if known != address]
    session["orders"] = [address, *others][:_REMEMBERED]


def remembered() -> list[Order]:
    """The orders this visitor has placed, newest first."""
    placed = select(Order).where(Order.address.in_(session.get("orders", []))).order_by(Order.created_at.desc())
    return list(db.session.scalars(placed))
