"""What must hold between the bank's books and the shop's, and every way in which it does not: pure, over values.

A payment at the bank belongs to exactly one fulfilled order or has exactly one review entry. No order is fulfilled
without its money, or twice. No refund is sent twice, and none is above what came in. Both sides add up to the same,
to the last unit. Each difference is one line: which, where, what was expected, what was found.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import combinations

from attrs import define

from tests.torture.books import BankBooks, Row, ShopBooks, quote_of

ABOUT_A_PAYMENT = ("second_payment", "old_attempt", "refunded_before_paid", "conflict", "movement_reused")
"""Reasons of reviews whose subject is the payment."""

ABOUT_AN_ATTEMPT = ("late", "partly_paid")
"""Reasons of reviews that stand for all that the attempt received."""


def differences(
    bank: BankBooks, shop: ShopBooks, expected: int, *, acknowledges: bool = True, fees: bool = True
) -> list[str]:
    """Every difference, in words; none when all holds. `expected` is how many purchases there should be.

    `acknowledges`: the shop keeps a webhook by the bank's own id, so that what it took can be looked up. `fees`: the
    shop is told of them.
    """
    sides = _Sides.of(bank, shop)
    found = [
        *_purchases(sides, expected),
        *_payments(sides),
        *_fulfilments(sides),
        *_refunds(sides),
        *_refund_requests(sides),
        *_acts(sides),
        *_ledger(bank),
        *_sums(sides, {"issue"} if fees else {"issue", "fee"}),
        *_evidence(sides),
        *_receipts(sides),
        *(_acknowledged(sides) if acknowledges else ()),
        *_sent(sides),
        *_left_open(sides),
    ]
    return list(dict.fromkeys(found))


@define
class _Sides:
    """Both sides, and how to find things on them."""

    bank: BankBooks
    shop: ShopBooks
    order_of: dict[str, str]
    invoice_by_id: dict[str, Row]
    invoice_by_reference: dict[str, Row]
    movements_of: dict[str, list[Row]]

    @classmethod
    def of(cls, bank: BankBooks, shop: ShopBooks) -> _Sides:
        movements_of = defaultdict(list)
        for moved in bank.movements:
            movements_of[moved["invoice"]].append(moved)
        return cls(
            bank,
            shop,
            {row["reference"]: row["order_id"] for row in shop.attempts},
            {row["id"]: row for row in bank.invoices},
            {row["reference"]: row for row in bank.invoices},
            movements_of,
        )

    def named(self, reference: str) -> str:
        return f"{reference} (order {self.order_of.get(reference, 'unknown to the shop')})"

    def settled(self, reference: str) -> list[Row]:
        """The payments of this reference that the bank has settled."""
        invoice = self.invoice_by_reference.get(reference)
        moved = [] if invoice is None else self.movements_of[invoice["id"]]
        return [each for each in moved if each["kind"] == "payment" and each["status"] == "settled"]


def purchases_made(bank: BankBooks, shop: ShopBooks) -> int:
    """Orders of the shop for which the bank has an invoice."""
    known = {row["id"] for row in shop.orders}
    orders = {row["reference"]: row["order_id"] for row in shop.attempts}
    return len({orders[row["reference"]] for row in bank.invoices if row["reference"] in orders} & known)


def _purchases(sides: _Sides, expected: int) -> Iterator[str]:
    made = purchases_made(sides.bank, sides.shop)
    if made != expected:
        yield f"purchases: expected {expected} orders with an invoice at the bank, found {made}"
    for reference in sides.invoice_by_reference:
        if reference not in sides.order_of:
            yield f"invoice {reference}: expected an attempt in the shop, found none"


def _payments(sides: _Sides) -> Iterator[str]:
    counted: Counter[str] = Counter(row["movement"] for row in sides.shop.paid_with)
    accepted = {row["review"] for row in sides.shop.decisions if row["verdict"] == "accept"}
    by_subject: dict[tuple[str, str], list[Row]] = defaultdict(list)
    by_attempt: dict[str, list[Row]] = defaultdict(list)
    for review in sides.shop.reviews:
        if review["reason"] in ABOUT_A_PAYMENT:
            by_subject[review["reference"], review["subject"]].append(review)
        elif review["reason"] in ABOUT_AN_ATTEMPT:
            by_attempt[review["reference"]].append(review)
    for reference in sides.invoice_by_reference:
        settled = sides.settled(reference)
        for moved in settled:
            entries = by_subject[reference, moved["id"]]
            homes = [f"fulfilled {counted[moved['id']]} times"] if counted[moved["id"]] else []
            standing = [entry for entry in entries if entry["number"] not in accepted]
            if not homes and not standing:
                standing = entries[:1] or _of_the_attempt(by_attempt[reference], moved, settled)
            homes += [f"review {entry['reason']}" for entry in standing]
            if len(homes) != 1 or counted[moved["id"]] > 1:
                told = ", ".join(homes) or "nothing"
                yield (
                    f"payment {moved['id']} of {sides.named(reference)}: expected one fulfilled order or one review "
                    f"entry, found {told}"
                )


def _of_the_attempt(reviews: list[Row], moved: Row, settled: list[Row]) -> list[Row]:
    """The entries that stand for a payment with its attempt's others: late, one a payment at most; or partly paid with
    just that, alone or with others: what comes later has an entry of its own."""
    late = [each for each in reviews if each["reason"] == "late"]
    others = [int(each["units"]) for each in settled if each["id"] != moved["id"]]
    some = [each for size in range(len(others) + 1) for each in combinations(others, size)]
    sums = {f"{int(moved['units']) + sum(each)}" for each in some}
    partly = [each for each in reviews if each["subject"].rpartition(":")[2] in sums]
    return late[len(settled) :] or late[:1] or partly[:1]


def _fulfilments(sides: _Sides) -> Iterator[str]:
    times = Counter(row["order_id"] for row in sides.shop.fulfilments)
    marks = {row["order_id"]: row["reference"] for row in sides.shop.marks}
    for order, count in times.items():
        if count != 1:
            yield f"order {order}: expected to be fulfilled once, found {count} times"
    for order in marks.keys() - times.keys():
        yield f"order {order}: expected what is marked as paid to be fulfilled, found no fulfilment"
    for row in sides.shop.fulfilments:
        if marks.get(row["order_id"]) != row["reference"]:
            by = marks.get(row["order_id"])
            yield f"order {row['order_id']}: fulfilled by {row['reference']}, marked as paid by {by}"
        yield from _money_of(sides, row)


def _money_of(sides: _Sides, row: Row) -> Iterator[str]:
    """A fulfilled order's money, in the bank's own figures."""
    invoice = sides.invoice_by_reference.get(row["reference"])
    due = None if invoice is None else int(invoice["due"])
    settled = {each["id"]: int(each["units"]) for each in sides.settled(row["reference"])}
    counted = {
        each["movement"]: int(each["units"]) for each in sides.shop.paid_with if each["reference"] == row["reference"]
    }
    at_the_bank = sum(units for movement, units in settled.items() if movement in counted)
    where = f"order {row['order_id']}"
    if due is None:
        yield f"{where}: fulfilled by {row['reference']}, which the bank does not know"
    elif at_the_bank < due:
        yield f"{where}: fulfilled with {at_the_bank} units settled at the bank, expected {due}"
    for movement, units in counted.items():
        if settled.get(movement) != units:
            yield f"{where}: counted {units} units of {movement}, the bank settled {settled.get(movement, 0)}"


def _refunds(sides: _Sides) -> Iterator[str]:
    known = {row["reference"]: row for row in sides.shop.refunds}
    times = Counter(row["reference"] for row in sides.bank.refunds)
    hooked = Counter(row["refund"] for row in sides.shop.refunded)
    sent = Counter(row["movement"] for row in sides.bank.transfers if row["kind"] == "refund")
    for row in sides.bank.refunds:
        where = f"refund {row['reference']} of {row['units']} units"
        mine = known.get(row["reference"])
        if mine is None:
            yield f"{where}: expected one that the shop asked for, found none in its tables"
            continue
        if times[row["reference"]] != 1 or sent[row["id"]] > 1:
            found = f"{times[row['reference']]} refunds, {sent[row['id']]} transfers"
            yield f"{where}: expected to be sent once, found {found}"
        expected = {"done": "DONE", "failed": "FAILED"}.get(row["status"], row["status"])
        if (mine["units"], mine["stage"]) != (row["units"], expected):
            yield f"{where}: {row['status']} at the bank, found {mine['stage']} of {mine['units']} units in the shop"
        if hooked[row["reference"]] != (1 if sent[row["id"]] else 0):
            yield f"{where}: sent {sent[row['id']]} times, expected the hook as often, found {hooked[row['reference']]}"
    for reference, row in known.items():
        if row["stage"] == "DONE" and not times[reference]:
            yield f"refund {reference}: done in the shop, expected at the bank, found none"
    yield from _refunds_within(sides)


def _refunds_within(sides: _Sides) -> Iterator[str]:
    back: Counter[str] = Counter()
    came: Counter[str] = Counter()
    for row in sides.bank.transfers:
        sign = {"refund_asked": 1, "refund_void": -1, "refund_failed": -1, "return": 1}.get(row["kind"], 0)
        back[row["invoice"]] += sign * int(row["units"])
        came[row["invoice"]] += int(row["units"]) if row["kind"] == "payment" else 0
    for invoice, units in back.items():
        if invoice in sides.invoice_by_id and units > came[invoice]:
            where = sides.named(sides.invoice_by_id[invoice]["reference"])
            yield f"{where}: expected at most {came[invoice]} units to go back, found {units}"


def _refund_requests(sides: _Sides) -> Iterator[str]:
    """Each one-time reference of a page is at most one refund at the bank, and none is lost."""
    mine = {row["request"]: row["reference"] for row in sides.shop.refunds}
    undone = {row["request"] for row in sides.shop.refunds if row["stage"] == "FAILED"}
    at_the_bank = Counter(row["reference"] for row in sides.bank.refunds)
    answers: dict[str, set[str | None]] = defaultdict(set)
    for row in sides.shop.asked:
        if row["verb"] == "refund":
            answers[row["request"]].add(row["answer"])
    for request in mine.keys() - answers.keys():
        if not request.startswith(("late:", "review:")):
            yield f"refund {mine[request]}: expected a page or a person that asked for it, found the request {request}"
    for request, told in answers.items():
        found = at_the_bank[mine[request]] if request in mine else 0
        if found > 1:
            yield f"refund request {request}: expected one refund at the bank at most, found {found}"
        if "done" in told and found != 1 and request not in undone:
            yield f"refund request {request}: answered as done, expected one refund at the bank, found {found}"


def _acts(sides: _Sides) -> Iterator[str]:
    """What was captured is settled, what was cancelled is not, and nothing is left in between."""
    waiting = [moved for moved in sides.bank.movements if moved["status"] in ("seen", "held")]
    for moved in waiting:
        where = sides.named(sides.invoice_by_id[moved["invoice"]]["reference"])
        yield f"payment {moved['id']} of {where}: expected to be settled or let go, found {moved['status']}"
    references = defaultdict(list)
    for reference, order in sides.order_of.items():
        references[order].append(reference)
    for row in sides.shop.asked:
        if row["answer"] != "done" or row["verb"] not in ("capture", "cancel"):
            continue
        invoices = [sides.invoice_by_reference.get(one) for one in references[row["order_id"]]]
        if row["verb"] == "capture" and not any(sides.settled(one) for one in references[row["order_id"]]):
            yield f"order {row['order_id']}: captured, expected a settled payment at the bank, found none"
        ended = [one for one in invoices if one is not None and one["status"] in ("cancelled", "expired")]
        if row["verb"] == "cancel" and not ended:
            yield f"order {row['order_id']}: cancelled, expected a cancelled invoice at the bank, found none"


def _ledger(bank: BankBooks) -> Iterator[str]:
    """Double entry: every transfer adds up to nothing, every account to its postings, every payment is booked."""
    by_transfer: Counter[str] = Counter()
    by_account: Counter[str] = Counter()
    for row in bank.postings:
        by_transfer[row["transfer"]] += int(row["units"])
        by_account[row["account"]] += int(row["units"])
    for row in bank.transfers:
        if by_transfer[row["id"]]:
            yield f"bank's transfer {row['id']}: expected to add up to 0, found {by_transfer[row['id']]}"
    for row in bank.accounts:
        if int(row["balance"]) != by_account[row["id"]]:
            yield f"bank's account {row['id']}: expected {by_account[row['id']]}, found {row['balance']}"
        if row["kind"] == "clearing" and int(row["balance"]):
            yield f"bank's account {row['id']}: expected 0 after the run, found {row['balance']}"
    booked = Counter(row["movement"] for row in bank.transfers if row["kind"] == "payment")
    for moved in bank.movements:
        expected = 1 if moved["kind"] == "payment" and moved["status"] == "settled" else 0
        if booked[moved["id"]] != expected:
            yield f"payment {moved['id']}: expected {expected} bookings at the bank, found {booked[moved['id']]}"
    asked = Counter(row["movement"] for row in bank.transfers if row["kind"] == "refund_asked")
    for row in bank.refunds:
        if asked.pop(row["id"], 0) != 1:
            yield f"refund {row['reference']}: expected one booking at the bank, found another number"
    for refund in asked:
        yield f"bank's refund {refund}: booked, expected among its refunds, found none"


def _sums(sides: _Sides, untold: set[str]) -> Iterator[str]:
    """What the shop's tables say it has, by token, against the merchant's accounts at the bank, but for transfers of
    which no shop is told.
    """
    token_of = {row["reference"]: row["token"] for row in sides.shop.attempts}
    mine: Counter[str] = Counter()
    came: Counter[str] = Counter()
    for seen in sides.shop.observations:
        sign = {"SETTLED": 1, "RETURNED": -1}.get(seen["stage"], 0)
        mine[token_of.get(seen["reference"], "?")] += sign * int(seen["units"])
        came[seen["reference"]] += int(seen["units"]) if sign > 0 else 0
    for refund in sides.shop.refunds:
        if refund["stage"] == "DONE":
            mine[token_of.get(refund["attempt"], "?")] -= int(refund["units"])
    for attempt in sides.shop.attempts:
        fee = int(quote_of(attempt).get("fee", "0"))
        mine[attempt["token"]] -= fee if fee and came[attempt["reference"]] >= fee else 0
    apart = {row["id"] for row in sides.bank.transfers if row["kind"] in untold}
    banks: Counter[str] = Counter()
    for row in sides.bank.postings:
        token, kind, _ = row["account"].split(":", 2)
        if kind == "merchant" and row["transfer"] not in apart:
            banks[token] += int(row["units"])
    for token in sorted(mine.keys() | banks.keys()):
        if mine[token] != banks[token]:
            yield f"sum of {token}: the bank has {banks[token]} units for the merchant, found {mine[token]} in the shop"


def _evidence(sides: _Sides) -> Iterator[str]:
    """Every settled payment that the shop knows has the bank's signed word beside it."""
    kept = {
        (row["reference"], row["movement"], row["units"]) for row in sides.shop.evidence if row["kind"] == "settlement"
    }
    for seen in sides.shop.observations:
        if seen["stage"] == "SETTLED" and (seen["reference"], seen["movement"], seen["units"]) not in kept:
            yield f"payment {seen['movement']}: expected the bank's stored confirmation, found none"


def _receipts(sides: _Sides) -> Iterator[str]:
    """Each fulfilled order's message went out, once or more often, under one key."""
    keys: dict[str, set[str]] = defaultdict(set)
    for row in sides.shop.receipts:
        keys[row["order_id"]].add(row["key"])
    fulfilled = {row["order_id"] for row in sides.shop.fulfilments}
    for order in sorted(fulfilled | keys.keys()):
        expected = 1 if order in fulfilled else 0
        if len(keys[order]) != expected:
            yield f"receipt of order {order}: expected under {expected} keys, found {len(keys[order])}"


def _acknowledged(sides: _Sides) -> Iterator[str]:
    """What the shop said it has, it has: each webhook that it answered with 200."""
    known = {row["key"] for row in sides.shop.events}
    taken = {row["message"] for row in sides.bank.deliveries if row["status"] is not None and row["status"] < 300}
    for message in sorted(taken - known):
        yield f"webhook {message}: answered as taken, expected among the shop's events, found none"


def _sent(sides: _Sides) -> Iterator[str]:
    """And each message that it sent."""
    put = {row["key"] for row in sides.shop.outgoing}
    for row in sides.shop.receipts:
        if row["key"] not in put:
            yield f"receipt of order {row['order_id']}: sent as {row['key']}, expected in the outbox, found none"


def _left_open(sides: _Sides) -> Iterator[str]:
    for row in sides.shop.intents:
        if row["answered_at"] is None:
            yield f"{row['verb']} of {sides.named(row['attempt'])}: expected an answer, found it open"
    for row in sides.shop.outgoing:
        if row["sent_at"] is None:
            yield f"message {row['key']}: expected to have gone out, found it waiting ({row['error']})"
    for row in sides.shop.refunds:
        if row["stage"] not in ("DONE", "FAILED", "CANCELLED"):
            yield f"refund {row['reference']}: expected an end, found {row['stage']}"
