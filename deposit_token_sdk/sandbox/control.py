"""The control: whatever a developer or a test wants to happen at the bank, as one verb each.

`Control` serves the process that holds the bank; the same verbs stand at ``POST /control/<verb>`` with a JSON object
of their arguments, and at ``GET /control`` in a list. Units go in as whole numbers or as digits, and come out as
digits. An invoice is named by its id or by the shop's reference.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from datetime import timedelta
from functools import cache
from typing import Any, Final

from sqlalchemy import RowMapping, select

from deposit_token_sdk.sandbox import bank as bank_room
from deposit_token_sdk.sandbox import clock, invoices, keyring, ledger, movements, outbox, quotes, refunds
from deposit_token_sdk.sandbox.bank import BUYERS, DEMO_MERCHANT, Bank
from deposit_token_sdk.sandbox.desk import Desk
from deposit_token_sdk.sandbox.ledger import BUYER, account
from deposit_token_sdk.sandbox.problems import Refused
from deposit_token_sdk.sandbox.tables import accounts, deliveries, messages, rows, transfers
from deposit_token_sdk.sandbox.tables import invoices as invoice_table
from deposit_token_sdk.signing import strict_json

_LONGEST_WORD = 4000
_LARGEST = 10**30


class Control:
    """Every verb of the control. Raises Refused where a verb cannot be done."""

    def __init__(self, bank: Bank, enrol: Callable[[str, str, str | None, str], dict[str, str]]) -> None:
        self._bank = bank
        self._enrol = enrol

    # The clock

    def advance(self, seconds: float) -> dict[str, Any]:
        """Move business time on; what has run out by then is ended, and what waits in the outbox comes sooner."""
        try:
            by = timedelta(seconds=seconds)
        except OverflowError:
            by = timedelta.max
        self._bank.advance(by)
        return self.time()

    def time(self) -> dict[str, Any]:
        """Business time, and by how many seconds it is ahead of real time."""
        now = strict_json.rfc3339(self._bank.clock.now())
        return {"now": now, "ahead": self._bank.clock.offset.total_seconds()}

    # Prices

    def set_rate(self, token: str, currency: str, rate: str | None = None) -> dict[str, str]:
        """Later quotes go by this middle rate, token currency for one unit of `currency` (null: the table's again)."""
        with self._bank.desk() as desk:
            return quotes.set_rate(desk, token, currency, rate)

    # Payments

    def pay(
        self, invoice: str, buyer: str = "anna", units: int | str | None = None, at: str | None = None
    ) -> dict[str, Any]:
        """A buyer pays: what is still due, or any other number of units; accepted now or `at` (RFC 3339)."""
        with self._bank.desk() as desk:
            row = _invoice(desk, invoice)
            if buyer not in BUYERS:
                raise Refused("malformed", f"The demo buyers are {', '.join(BUYERS)}.")
            amount = still_due(desk, row) or row["due"] if units is None else _units(units)
            accepted_at = None if at is None else strict_json.moment({"at": at}, "at")
            return movements.pay(desk, row, buyer, amount, accepted_at)

    def hold(self, invoice: str | None = None, count: int | None = 1) -> dict[str, Any]:
        """The next `count` payments, of one invoice or of any, stay seen until `settle` or `decline`."""
        return self.fault("payment_held", count=count, invoice=invoice)

    def settle(self, invoice: str) -> dict[str, Any]:
        """What is on its way goes on: settled; with manual capture first held, then settled."""
        with self._bank.desk() as desk:
            return movements.go_on(desk, _invoice(desk, invoice))

    def decline(self, invoice: str) -> dict[str, Any]:
        """As if the buyer declined: money on its way goes back; an open invoice is cancelled."""
        with self._bank.desk() as desk:
            return movements.decline(desk, _invoice(desk, invoice))

    def return_payment(self, invoice: str, movement: str | None = None) -> dict[str, Any]:
        """The bank takes a settled payment back: that movement, or the invoice's last that can be."""
        with self._bank.desk() as desk:
            row = _invoice(desk, invoice)
            moved = invoices.moves(desk, row["id"])
            taken = {each["of"] for each in moved}
            able = [each["id"] for each in moved if each["status"] == "settled" and each["id"] not in taken]
            chosen = [each for each in able if movement in (None, each)]
            if not chosen:
                raise Refused("malformed", "There is no settled payment to return.", status=409)
            return movements.give_back(desk, chosen[-1])

    def fund(self, buyer: str, token: str, units: int | str) -> dict[str, Any]:
        """A demo buyer deposits more and holds as many tokens more."""
        if buyer not in BUYERS:
            raise Refused("malformed", f"The demo buyers are {', '.join(BUYERS)}.")
        with self._bank.desk() as desk:
            target = account(BUYER, quotes.token_of(token).code, buyer)
            ledger.issue(desk.db, token, target, _units(units), desk.now)
            return {"account": target, "units": str(ledger.balance(desk.db, target))}

    # Refunds

    def hold_refunds(self, count: int | None = 1, invoice: str | None = None) -> dict[str, Any]:
        """The next `count` refunds stay pending until `finish_refund` or `fail_refund`."""
        return self.fault("refund_pending", count=count, invoice=invoice)

    def finish_refund(self, refund: str) -> dict[str, Any]:
        """A pending refund is done."""
        with self._bank.desk() as desk:
            return refunds.finish(desk, refund)

    def fail_refund(self, refund: str) -> dict[str, Any]:
        """A refund fails, though it may have been done: its amount is the merchant's again."""
        with self._bank.desk() as desk:
            return refunds.fail(desk, refund)

    # Webhooks

    def drop_webhooks(
        self, count: int | None = 1, event: str | None = None, invoice: str | None = None
    ) -> dict[str, Any]:
        """The next `count` messages (null: all, until `clear_faults`) are lost; `resend` sends one all the same."""
        return self.fault("webhook_lost", count=count, invoice=invoice, route=event)

    def repeat_webhooks(
        self, count: int | None = 1, event: str | None = None, invoice: str | None = None
    ) -> dict[str, Any]:
        """The next `count` messages are sent twice."""
        return self.fault("webhook_repeated", count=count, invoice=invoice, route=event)

    def resend(self, message: str, copies: int = 1) -> dict[str, Any]:
        """Send a message again, now, as often as `copies` says: same id and body, signed anew."""
        with self._bank.desk() as desk:
            outbox.resend(desk, message, copies)
        return {"message": message}

    def webhooks(
        self, invoice: str | None = None, merchant: str | None = None, limit: int = 200
    ) -> list[dict[str, Any]]:
        """The newest messages, oldest first: body, state, and each try with its signature and answer."""
        with self._bank.desk() as desk:
            chosen = select(messages).order_by(messages.c.seq.desc()).limit(limit)
            if invoice is not None:
                chosen = chosen.where(messages.c.invoice == _invoice(desk, invoice)["id"])
            if merchant is not None:
                chosen = chosen.where(messages.c.merchant == merchant)
            return [message_document(desk, row) for row in reversed(desk.db.execute(chosen).mappings().all())]

    def ping(self, merchant: str = DEMO_MERCHANT) -> dict[str, Any]:
        """Send a signed test event to the merchant's webhook address."""
        with self._bank.desk() as desk:
            return {"message": bank_room.ping(desk, merchant)}

    def send_test_event(self, url: str, merchant: str = DEMO_MERCHANT) -> dict[str, Any]:
        """Send a signed test event to any address on this machine, once, now; returns what was sent and answered."""
        outbox.require_loopback(url)
        at = clock.real_now().replace(microsecond=0)
        with self._bank.desk() as desk:
            message, body = bank_room.test_event(desk, merchant)
            headers = outbox.signed_headers(desk, merchant, message, body.encode(), at)
        with outbox.session() as session:
            status, answer = outbox.post(session, url, headers, body.encode())
        with self._bank.desk() as desk:
            outbox.record(desk, message, url, headers, at, status, answer)
            outbox.finish(desk, message, status)
        return {"message": message, "headers": headers, "body": body, "status": status, "answer": answer}

    def set_webhook_url(self, url: str | None, merchant: str = DEMO_MERCHANT) -> dict[str, Any]:
        """Where the merchant's webhooks go; null: nowhere, they wait in the outbox."""
        with self._bank.desk() as desk:
            bank_room.set_webhook_url(desk, merchant, url)
        return {"merchant": merchant, "url": url}

    # Keys and merchants

    def rotate_key(self, purpose: str = keyring.STATEMENT) -> dict[str, Any]:
        """A new key for ``statement`` or ``answer``; the earlier ones stay as good as they were."""
        with self._bank.desk() as desk:
            return {"kid": keyring.rotate(desk.db, purpose).kid}

    def retire_key(self, kid: str) -> dict[str, Any]:
        """The key signs nothing more; what it signed before holds."""
        with self._bank.desk() as desk:
            keyring.retire(desk.db, kid, desk.real)
        return {"kid": kid}

    def revoke_key(self, kid: str) -> dict[str, Any]:
        """The key is worth nothing any more; statements are issued again under the current one."""
        with self._bank.desk() as desk:
            keyring.revoke(desk.db, kid, desk.real)
        return {"kid": kid}

    def keys(self) -> dict[str, Any]:
        """The current key of each purpose, and the published set."""
        with self._bank.desk() as desk:
            now = {purpose: keyring.current(desk.db, purpose).kid for purpose in (keyring.STATEMENT, keyring.ANSWER)}
            return {"current": now, **keyring.published(desk.db).jwks()}

    def rotate_webhook_key(self, merchant: str = DEMO_MERCHANT) -> dict[str, Any]:
        """A new key for the endpoint beside the old, both signing; returns all public texts, the newest first."""
        with self._bank.desk() as desk:
            bank_room.merchant_of(desk, merchant)
            keyring.add_webhook_key(desk.db, merchant)
            return _endpoint_keys(desk, merchant)

    def retire_webhook_keys(self, merchant: str = DEMO_MERCHANT) -> dict[str, Any]:
        """Only the newest of the endpoint's keys signs from now on."""
        with self._bank.desk() as desk:
            bank_room.merchant_of(desk, merchant)
            keyring.drop_old_webhook_keys(desk.db, merchant)
            return _endpoint_keys(desk, merchant)

    def create_merchant(
        self, merchant: str, name: str = "", webhook_url: str | None = None, dialect: str = "reference"
    ) -> dict[str, str]:
        """Another merchant, with a signing key of its own; returns the settings its shop needs, in that dialect."""
        return self._enrol(merchant, name or merchant, webhook_url, dialect)

    # Faults

    def fault(
        self,
        kind: str,
        count: int | None = 1,
        invoice: str | None = None,
        route: str | None = None,
        seconds: float = 0.0,
        rate: float = 1.0,
        seed: int = 0,
    ) -> dict[str, Any]:
        """Put a fault in force: so many times (null: until cleared), for one invoice or reference, on one route.

        A `rate` below 1 hits that share of what fits, drawn by `seed`: the same requests, the same faults.
        """
        return {"fault": self._bank.faults.add(kind, count, invoice, route, seconds, rate, seed).id}

    def clear_faults(self, kind: str | None = None, fault: int | None = None) -> list[dict[str, object]]:
        """Take back all faults, or all of one kind, or one by its number; returns what is left."""
        self._bank.faults.clear(kind, fault)
        return self.faults()

    def faults(self) -> list[dict[str, object]]:
        """The faults in force."""
        return self._bank.faults.listed()

    def fault_counts(self) -> dict[str, int]:
        """How often each kind of fault has struck since the bank was started."""
        return self._bank.faults.counts()

    # Reading the bank's own books

    def invoice(self, invoice: str) -> dict[str, Any]:
        """An invoice as the API shows it, with what is still due and what could be refunded."""
        with self._bank.desk() as desk:
            row = _invoice(desk, invoice)
            more = {"still_due": still_due(desk, row), "refundable": refunds.refundable(desk, row)}
            return invoices.document(desk, row) | {name: str(units) for name, units in more.items()}

    def invoices(self, merchant: str | None = None) -> list[dict[str, Any]]:
        """All invoices, oldest first."""
        with self._bank.desk() as desk:
            chosen = select(invoice_table).order_by(invoice_table.c.seq)
            if merchant is not None:
                chosen = chosen.where(invoice_table.c.merchant == merchant)
            return [invoices.document(desk, row) for row in desk.db.execute(chosen).mappings().all()]

    def ledger(self, invoice: str | None = None) -> list[dict[str, Any]]:
        """Every transfer that was booked, oldest first: of one invoice, or of all."""
        with self._bank.desk() as desk:
            chosen = select(transfers).order_by(transfers.c.seq)
            if invoice is not None:
                chosen = chosen.where(transfers.c.invoice == _invoice(desk, invoice)["id"])
            return [transfer_document(row) for row in desk.db.execute(chosen).mappings().all()]

    def balances(self) -> dict[str, str]:
        """What each account holds, in units, by account id (``SBUSD:merchant:demo-shop``)."""
        with self._bank.desk() as desk:
            rows = desk.db.execute(select(accounts.c.id, accounts.c.balance).order_by(accounts.c.id))
            return {name: str(units) for name, units in rows}

    def audit(self) -> list[str]:
        """Every contradiction in the bank's books, in words; empty when they hold."""
        with self._bank.desk() as desk:
            return ledger.audit(desk.db)


VERBS: Final[dict[str, Callable[..., Any]]] = {
    name: verb for name, verb in vars(Control).items() if inspect.isfunction(verb) and not name.startswith("_")
}
"""The verbs by name."""


def still_due(desk: Desk, row: RowMapping) -> int:
    """What is neither received nor on its way yet, in token units."""
    moved = invoices.moves(desk, row["id"])
    coming: int = sum(each["units"] for each in moved if each["status"] in ("seen", "held"))
    due: int = row["due"]
    return max(0, due - invoices.received(moved) - coming)


def call(control: Control, verb: str, arguments: dict[str, Any]) -> Any:
    """Do a verb with arguments that came as JSON. Raises Refused (``not_found``, ``malformed``)."""
    if verb not in VERBS:
        raise Refused("not_found", f"There is no verb {verb[:60]!r}: GET /control lists them.")
    try:
        _signature(verb).bind(control, **arguments)
        _check_kinds(verb, arguments)
    except TypeError as error:
        raise Refused("malformed", f"{verb}: {error}") from None
    return getattr(control, verb)(**arguments)


@cache
def _signature(verb: str) -> inspect.Signature:
    return inspect.signature(VERBS[verb])


def described() -> list[dict[str, str]]:
    """The verbs, their arguments and what they do."""
    return [
        {
            "verb": name,
            "arguments": ", ".join(str(each) for each in _arguments(verb)).replace("'", ""),
            "does": inspect.getdoc(verb) or "",
        }
        for name, verb in VERBS.items()
    ]


def _arguments(verb: Callable[..., Any]) -> list[inspect.Parameter]:
    return [each for each in inspect.signature(verb).parameters.values() if each.name != "self"]


def _check_kinds(verb: str, arguments: dict[str, Any]) -> None:
    """Refuse a value that is of none of the kinds its argument is annotated with."""
    for name, value in arguments.items():
        annotation = str(_signature(verb).parameters[name].annotation)
        if not any(_is(kind, value) for kind in annotation.split(" | ")):
            raise TypeError(f"{name} is {annotation}, and plain")


def _is(kind: str, value: object) -> bool:
    if isinstance(value, str):
        return kind == "str" and len(value) <= _LONGEST_WORD and value.isprintable()
    if value is None or isinstance(value, bool):
        return kind == "None" and value is None
    fits = (kind == "float" and isinstance(value, (int, float))) or (kind == "int" and isinstance(value, int))
    return fits and isinstance(value, (int, float)) and abs(value) < _LARGEST


def _units(units: int | str) -> int:
    return strict_json.units({"units": str(units)}, "units")


def _invoice(desk: Desk, named: str) -> RowMapping:
    for name in ("id", "reference"):
        found = desk.db.execute(rows(invoice_table, name), {name: named}).mappings().first()
        if found is not None:
            return found
    return desk.invoice(named)


def _endpoint_keys(desk: Desk, merchant: str) -> dict[str, Any]:
    return {"keys": [signer.public_text for signer in keyring.webhook_signers(desk.db, merchant)]}


def message_document(desk: Desk, row: RowMapping) -> dict[str, Any]:
    """A message with its body and every try."""
    chosen = select(deliveries).where(deliveries.c.message == row["id"]).order_by(deliveries.c.seq)
    return {
        **{name: row[name] for name in ("id", "merchant", "invoice", "type", "state", "body")},
        "created_at": strict_json.rfc3339(row["created_at"]),
        "tries": [
            {
                **{name: each[name] for name in ("url", "status", "answer", "signature")},
                "at": strict_json.rfc3339(each["at"]),
            }
            for each in desk.db.execute(chosen).mappings().all()
        ],
    }


def transfer_document(row: RowMapping) -> dict[str, Any]:
    """A transfer as it was booked."""
    named = ("id", "kind", "token", "merchant", "invoice", "reference", "movement")
    return {**{name: row[name] for name in named}, "at": strict_json.rfc3339(row["at"]), "units": str(row["units"])}
