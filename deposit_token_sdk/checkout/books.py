"""What the shop's books and the bank's ledger of a day say about the same orders, set side by side: pure, over values.

A movement belongs to the day on which the bank booked it, whatever day it was accepted on. What the shop has and the
bank booked nowhere belongs to the day on which it was accepted. So the totals of both sides are equal to the unit
exactly when every line has its counterpart. Every difference is named by a word of `KINDS`; nothing is netted, so
that two wrongs never look right.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Final, TypeAlias

from attrs import field, frozen

from deposit_token_sdk.checkout.intents import sent_back
from deposit_token_sdk.checkout.store import Attempt, RefundRecord
from deposit_token_sdk.lifecycle import Observation, RefundStage, Stage, conflicts
from deposit_token_sdk.models import Bearer, Invoice, LedgerEntry

KINDS: Final[Mapping[str, str]] = {
    "payment_unknown": "the bank booked a payment that this shop does not have",
    "payment_missing": "this shop has a payment that the bank has booked nowhere",
    "payment_differs": "a payment has another amount or token at the bank",
    "return_unknown": "the bank took a payment back, and this shop does not know",
    "return_missing": "this shop has a return that the bank has booked nowhere",
    "return_differs": "a return has another amount or token at the bank",
    "refund_unknown": "the bank booked a refund that this shop did not ask for",
    "refund_missing": "this shop has a refund as done that the bank has booked nowhere",
    "refund_differs": "a refund has another amount or token at the bank",
    "refund_unfinished": "the bank booked a refund that this shop does not have as done",
    "refund_failure_unknown": "a refund came back to the merchant, and this shop does not know",
    "fee_differs": "the bank took another fee than the quote says",
    "fee_missing": "the bank did not take the fee of the quote",
    "booked_twice": "the bank booked the same movement twice",
    "line_unknown": "the bank's ledger has a line of a kind that this version does not know",
    "invoice_unknown": "the bank has an invoice of this installation that the shop's database does not have",
    "invoice_differs": "an invoice is over another amount or token at the bank",
    "payment_unaccounted": "money came that neither fulfilled an order nor is up for review",
    "fulfilled_without_money": "an order is fulfilled, and the bank booked too little money for it",
}
"""Every difference by its word, and what it says."""

BOOKED: Final = ("payment", "return", "refund", "refund_failed", "fee")
"""The kinds of lines a ledger has, in the order of the report."""

_ABOUT_REFUNDS = frozenset({"refund_unknown", "refund_differs", "refund_revived", "refund_failed"})
"""Reviews that show a person a refund, and not the payment itself."""

Key: TypeAlias = tuple[str, str]
"""A line's kind, and the movement or refund it is about."""


@frozen
class Booked:
    """One attempt as the shop's tables have it. `attempt` is None where only a fulfilment names it.

    `paid_by` and `paid_at`: what fulfilled the order, and when. `reviews` are the reasons of all reviews about the
    attempt, decided or not; `refunded_at` when the bank accepted each refund, by the refund's reference.
    """

    reference: str
    order_id: str
    attempt: Attempt | None
    refunds: tuple[RefundRecord, ...] = ()
    paid_by: str | None = None
    paid_at: datetime | None = None
    reviews: tuple[str, ...] = ()
    refunded_at: Mapping[str, datetime] = field(factory=dict)

    @property
    def pays(self) -> bool:
        """Whether this attempt is what fulfilled the order."""
        return self.paid_by == self.reference

    def moved(self, stage: Stage) -> dict[str, Observation]:
        """The movements seen at this stage, by id; of one with two amounts, either."""
        seen = () if self.attempt is None else self.attempt.history.observations
        return {each.movement: each for each in seen if each.stage is stage}


@frozen
class Span:
    """A day: from its beginning until that of the next."""

    begin: datetime
    end: datetime

    def __contains__(self, moment: datetime | None) -> bool:
        return moment is not None and self.begin <= moment < self.end


@frozen
class Sought:
    """Something the shop has and the bank's ledger of the day has not: to be looked for in the days around `at`."""

    key: Key
    at: datetime


@frozen
class Difference:
    """One way in which the two sides disagree. `ours` and `banks` are token units; None where a side has nothing.

    `subject` is the movement, refund or invoice it is about.
    """

    kind: str
    order_id: str
    reference: str
    subject: str
    token: str
    ours: int | None
    banks: int | None
    detail: str


@frozen
class Made:
    """An invoice that the bank made on the day, in brief. `word` is the bank's own status."""

    id: str
    reference: str
    word: str
    token: str
    due: int
    received: int

    @classmethod
    def of(cls, invoice: Invoice) -> Made:
        """What of an invoice is compared."""
        received = sum(moved.units for moved in invoice.movements if moved.stage is Stage.SETTLED)
        return cls(invoice.id, invoice.reference, invoice.word, invoice.token, invoice.due, received)


@frozen
class Row:
    """One invoice on one day. `ours` and `banks` are token units by the kind of line; `lines` the bank's, by id."""

    order_id: str
    reference: str
    invoice: str
    token: str
    status: str
    due: int | None
    fulfilled: bool
    ours: Mapping[str, int]
    banks: Mapping[str, int]
    lines: tuple[str, ...]
    differences: tuple[Difference, ...]


def missing(ours: Booked, banks: tuple[LedgerEntry, ...], span: Span) -> tuple[Sought, ...]:
    """What of the shop's must have been booked on this day, or must prove a fulfilment of this day, and has no line."""
    there = {_key(line) for line in banks}
    proves = ours.pays and ours.paid_at in span
    found = [
        Sought(("payment", seen.movement), seen.accepted_at)
        for seen in ours.moved(Stage.SETTLED).values()
        if proves or seen.accepted_at in span
    ]
    found += [
        Sought(("return", seen.movement), seen.accepted_at)
        for seen in ours.moved(Stage.RETURNED).values()
        if seen.accepted_at in span
    ]
    for refund in ours.refunds:
        done_at = _done_at(ours, refund)
        if done_at is not None and done_at in span:
            found.append(Sought(("refund", refund.bank_id or refund.reference), done_at))
    return tuple(sought for sought in found if sought.key not in there)


def compare(
    ours: Booked, banks: tuple[LedgerEntry, ...], elsewhere: Mapping[Key, LedgerEntry], span: Span
) -> tuple[Difference, ...]:
    """Every difference about one invoice on one day. `elsewhere` are lines of other days that `missing` asked for."""
    if ours.attempt is None:
        return tuple(_lost(ours, banks))
    lines = _Lines(banks, elsewhere)
    return (
        *_twice(ours, banks),
        *_payments(ours, lines, span),
        *_returns(ours, lines, span),
        *_refunds(ours, lines, span),
        *_fees(ours, lines),
        *_orders(ours, lines, span),
    )


def compare_invoice(ours: Booked, bank: Made) -> tuple[Difference, ...]:
    """How the bank's invoice differs from the shop's attempt; the shop may have none, as after a restored backup."""
    if ours.attempt is None:
        detail = (
            f"Invoice {bank.id} ({bank.word}, {bank.due} units due, {bank.received} received) is not in the shop's "
            f"database. Was a backup restored?"
        )
        return (Difference("invoice_unknown", "", bank.reference, bank.id, bank.token, None, bank.due, detail),)
    quote, token = ours.attempt.quote, ours.attempt.token
    if quote is None or (quote.due, token) == (bank.due, bank.token):
        return ()
    detail = (
        f"Invoice {bank.id} is over {bank.due} units of {bank.token}, the shop's quote over {quote.due} of {token}."
    )
    return (_difference("invoice_differs", ours, bank.id, quote.due, bank.due, detail),)


def row(ours: Booked, banks: tuple[LedgerEntry, ...], differences: tuple[Difference, ...], span: Span) -> Row:
    """The invoice's line in the report."""
    attempt = ours.attempt
    standing = None if attempt is None else attempt.standing
    return Row(
        order_id=ours.order_id,
        reference=ours.reference,
        invoice=(attempt.invoice if attempt is not None else None) or next((line.invoice for line in banks), ""),
        token=attempt.token if attempt is not None else next((line.token for line in banks), ""),
        status="unknown" if standing is None else standing.status.value,
        due=None if standing is None else standing.due,
        fulfilled=ours.pays,
        ours=_our_units(ours, banks, differences),
        banks=_sums((line.kind, line.units) for line in banks),
        lines=tuple(line.id for line in banks),
        differences=differences,
    )


@frozen
class _Lines:
    """The bank's lines about one invoice: those of the day, and those found in other days."""

    today: tuple[LedgerEntry, ...]
    elsewhere: Mapping[Key, LedgerEntry]

    def of(self, *kinds: str) -> tuple[LedgerEntry, ...]:
        """The day's lines of these kinds."""
        return tuple(line for line in self.today if line.kind in kinds)

    def find(self, kind: str, subject: str) -> LedgerEntry | None:
        """The line about this movement or refund, on whichever day."""
        key = (kind, subject)
        return next((line for line in self.today if _key(line) == key), self.elsewhere.get(key))


def _payments(ours: Booked, lines: _Lines, span: Span) -> Iterator[Difference]:
    yield from _movements("payment", ours, lines, Stage.SETTLED, span)


def _returns(ours: Booked, lines: _Lines, span: Span) -> Iterator[Difference]:
    yield from _movements("return", ours, lines, Stage.RETURNED, span)


def _movements(kind: str, ours: Booked, lines: _Lines, stage: Stage, span: Span) -> Iterator[Difference]:
    known = ours.moved(stage)
    for line in lines.of(kind):
        if line.movement not in known:
            yield _of_line(f"{kind}_unknown", ours, line, None, f"{_said(line)}. The shop does not have it.")
    doubtful = frozenset() if ours.attempt is None else conflicts(ours.attempt.history)
    for seen in known.values():
        booked = lines.find(kind, seen.movement)
        if booked is None:
            if seen.accepted_at in span:
                detail = (
                    f"{seen.units} units, accepted at {_time(seen.accepted_at)}, are in no ledger of the days around."
                )
                yield _difference(f"{kind}_missing", ours, seen.movement, seen.units, None, detail)
        elif seen.movement in doubtful:
            detail = f"{_said(booked)}. The bank has named two amounts for it."
            yield _of_line(f"{kind}_differs", ours, booked, seen.units, detail)
        elif _differs(ours, booked, seen.units):
            yield _of_line(f"{kind}_differs", ours, booked, seen.units, f"{_said(booked)}. {_has(ours, seen.units)}")


def _refunds(ours: Booked, lines: _Lines, span: Span) -> Iterator[Difference]:
    for line in lines.of("refund", "refund_failed"):
        known = _refund_of(ours, line)
        if known is None:
            yield _of_line("refund_unknown", ours, line, None, f"{_said(line)}. The shop did not ask for it.")
        elif _differs(ours, line, known.units):
            yield _of_line("refund_differs", ours, line, known.units, f"{_said(line)}. {_has(ours, known.units)}")
        elif line.kind == "refund" and known.stage < RefundStage.DONE:
            detail = f"{_said(line)}. The shop has it as {known.stage.name.lower()}."
            yield _of_line("refund_unfinished", ours, line, known.units, detail)
        elif line.kind == "refund_failed" and known.stage.counts:
            detail = f"{_said(line)}. The shop has it as {known.stage.name.lower()}: its amount is free again."
            yield _of_line("refund_failure_unknown", ours, line, known.units, detail)
    for refund in ours.refunds:
        done_at = _done_at(ours, refund)
        if done_at is not None and done_at in span and _booked(lines, refund) is None:
            detail = f"{refund.units} units, done at {_time(done_at)}, are in no ledger of the days around."
            yield _difference("refund_missing", ours, refund.reference, refund.units, None, detail)


def _fees(ours: Booked, lines: _Lines) -> Iterator[Difference]:
    quote = None if ours.attempt is None else ours.attempt.quote
    agreed = 0 if quote is None else quote.fee
    taken = lines.of("fee")
    if len(taken) > 1 or any(line.units != agreed for line in taken):
        total = sum(line.units for line in taken)
        detail = f"The bank took {total} units in {len(taken)} of the {agreed} agreed."
        yield _difference("fee_differs", ours, taken[0].movement, agreed, total, detail)
    paid = ours.moved(Stage.SETTLED)
    whole = paid and all(any(line.movement == each for line in lines.of("payment")) for each in paid)
    if agreed and not taken and whole and sum(seen.units for seen in paid.values()) >= agreed:
        yield _difference("fee_missing", ours, "", agreed, None, f"The quote's fee of {agreed} units was not booked.")


def _orders(ours: Booked, lines: _Lines, span: Span) -> Iterator[Difference]:
    attempt = ours.attempt
    standing = None if attempt is None else attempt.standing
    if ours.pays and ours.paid_at in span:
        due = 0 if standing is None else standing.due
        booked = _money(ours, lines)
        if standing is None or booked < due:
            detail = f"Order {ours.order_id!r} is fulfilled for {due} units; the bank booked {booked}."
            yield _difference("fulfilled_without_money", ours, ours.reference, due, booked, detail)
    if lines.of("payment") and not _accounted(ours):
        received = 0 if standing is None else standing.received
        detail = f"{received} units came, which neither fulfilled order {ours.order_id!r} nor are up for review."
        yield _difference("payment_unaccounted", ours, ours.reference, received, _money(ours, lines), detail)
    for line in lines.today:
        if line.kind not in BOOKED:
            yield _of_line("line_unknown", ours, line, None, f"{_said(line)}. See whether a newer version knows it.")


def _money(ours: Booked, lines: _Lines) -> int:
    """What the bank booked towards this invoice, as far as it was looked at."""
    known = {line.movement: line.units for line in lines.of("payment")}
    for movement in ours.moved(Stage.SETTLED):
        found = lines.find("payment", movement)
        if found is not None:
            known[movement] = found.units
    return sum(known.values())


def _accounted(ours: Booked) -> bool:
    """Whether all that came has fulfilled the order, waits for the rest, went back, or was shown to a person."""
    attempt = ours.attempt
    standing = None if attempt is None else attempt.standing
    shown = any(reason not in _ABOUT_REFUNDS for reason in ours.reviews)
    if attempt is None or standing is None or standing.received <= 0 or shown:
        return True
    if ours.pays:
        return standing.received - sent_back(ours.refunds) <= standing.due
    kept = attempt.quote.fee if attempt.quote is not None and attempt.bearer is Bearer.DEBT else 0
    waits = attempt.ended is None and standing.received < standing.due
    back = sent_back(ours.refunds)
    return waits or (back > 0 and back >= standing.received - kept)


def _lost(ours: Booked, banks: tuple[LedgerEntry, ...]) -> Iterator[Difference]:
    """A reference of which the shop has at most a fulfilment."""
    if ours.order_id:
        detail = f"Order {ours.order_id!r} is fulfilled by an attempt that the shop's database does not have."
        yield Difference(
            "fulfilled_without_money", ours.order_id, ours.reference, ours.reference, "", None, None, detail
        )
    kinds = {"payment": "payment_unknown", "return": "return_unknown", "fee": "fee_differs"}
    for line in banks:
        kind = kinds.get(line.kind, "refund_unknown" if line.kind in BOOKED else "line_unknown")
        yield _of_line(kind, ours, line, None, f"{_said(line)}. The shop's database does not have its invoice.")


def _twice(ours: Booked, banks: tuple[LedgerEntry, ...]) -> Iterator[Difference]:
    count = Counter(_key(line) for line in banks if line.kind != "fee")
    for line in {_key(line): line for line in banks}.values():
        if count[_key(line)] > 1:
            detail = f"{_said(line)}, and {count[_key(line)] - 1} times more."
            yield _of_line("booked_twice", ours, line, line.units, detail)


def _our_units(ours: Booked, banks: tuple[LedgerEntry, ...], differences: tuple[Difference, ...]) -> dict[str, int]:
    """What the shop has of what the bank booked on the day, and what the bank booked on no day."""
    payments, returns = ours.moved(Stage.SETTLED), ours.moved(Stage.RETURNED)
    quote = None if ours.attempt is None else ours.attempt.quote
    found: list[tuple[str, int]] = []
    for line in {_key(line): line for line in banks}.values():
        seen = (payments if line.kind == "payment" else returns).get(line.movement)
        if line.kind in ("payment", "return") and seen is not None:
            found.append((line.kind, seen.units))
        refund = _refund_of(ours, line)
        if refund is not None and (
            refund.stage >= RefundStage.DONE if line.kind == "refund" else not refund.stage.counts
        ):
            found.append((line.kind, refund.units))
    if quote is not None and quote.fee and any(line.kind == "fee" for line in banks):
        found.append(("fee", quote.fee))
    found += [
        (each.kind.removesuffix("_missing"), each.ours)
        for each in differences
        if each.kind.endswith("_missing") and each.ours is not None
    ]
    return _sums(found)


def _sums(units: Iterable[tuple[str, int]]) -> dict[str, int]:
    summed: dict[str, int] = {}
    for kind, each in units:
        summed[kind] = summed.get(kind, 0) + each
    return summed


def _key(line: LedgerEntry) -> Key:
    return line.kind, line.movement


def _refund_of(ours: Booked, line: LedgerEntry) -> RefundRecord | None:
    """The shop's refund that a line is about, by either side's name for it."""
    if line.kind not in ("refund", "refund_failed"):
        return None
    names = {line.movement, line.refund_reference}
    return next((refund for refund in ours.refunds if names & {refund.bank_id or "", refund.reference}), None)


def _booked(lines: _Lines, refund: RefundRecord) -> LedgerEntry | None:
    found = next(
        (
            line
            for line in lines.of("refund")
            if {line.movement, line.refund_reference} & {refund.bank_id or "", refund.reference}
        ),
        None,
    )
    return found or lines.find("refund", refund.bank_id or refund.reference)


def _done_at(ours: Booked, refund: RefundRecord) -> datetime | None:
    """When the bank did the refund: by its statement, else when it was asked for; None where it was never done."""
    stated = ours.refunded_at.get(refund.reference)
    if stated is not None:
        return stated
    return refund.created_at if refund.stage is RefundStage.DONE else None


def _differs(ours: Booked, line: LedgerEntry, units: int) -> bool:
    return line.units != units or (ours.attempt is not None and line.token != ours.attempt.token)


def _said(line: LedgerEntry) -> str:
    return f"The bank booked {line.kind} {line.movement} over {line.units} units of {line.token} at {_time(line.at)}"


def _has(ours: Booked, units: int) -> str:
    return f"The shop has {units} units of {'' if ours.attempt is None else ours.attempt.token}."


def _time(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")


def _difference(kind: str, ours: Booked, subject: str, units: int | None, banks: int | None, detail: str) -> Difference:
    token = "" if ours.attempt is None else ours.attempt.token
    return Difference(kind, ours.order_id, ours.reference, subject, token, units, banks, detail)


def _of_line(kind: str, ours: Booked, line: LedgerEntry, units: int | None, detail: str) -> Difference:
    return Difference(kind, ours.order_id, ours.reference, line.movement, line.token, units, line.units, detail)
