"""Harbour Bank, imagined: it speaks the reference API, but signs no statements, and can neither cancel nor hold.

So the proof that money moved is the bank's own answer, read over its channel and kept as it came (`Proof.CHANNEL`). A
webhook is believed in one thing only: which invoice to read. What is as in the reference API is left to
`ReferenceIssuer`, what the bank lacks to `Lacking`, and everything that follows from an answer is written here.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

from attrs import evolve

from deposit_token_sdk import evidence
from deposit_token_sdk.exchange import Exchange, Response
from deposit_token_sdk.issuers.lacking import Lacking
from deposit_token_sdk.issuers.protocol import Capability
from deposit_token_sdk.issuers.reference import ReferenceIssuer
from deposit_token_sdk.lifecycle import RefundStage, Stage
from deposit_token_sdk.models import Event, Evidence, Invoice, Proof, Report, StatementKind
from deposit_token_sdk.settings import Settings
from deposit_token_sdk.signing import strict_json

T = TypeVar("T")
SAME: Final = "tokens quote create_invoice invoice find_invoice refund refund_status find_refund read_event".split()
"""The verbs that are the reference API's, word for word."""


class HarbourIssuer(Lacking):
    """Harbour Bank for one merchant. See `issuers.protocol.Issuer` for what each verb means."""

    capabilities = frozenset(map(Capability, ("quotes", "hosted_page", "refunds", "webhooks", "idempotency")))
    proofs = frozenset({Proof.CHANNEL})
    key_lifetime = 86_400.0

    def __init__(self, settings: Settings) -> None:
        self.name, self.merchant, self.mode = settings.bank, settings.merchant, str(settings.mode)
        self._api = ReferenceIssuer(settings)
        for verb in SAME:
            setattr(self, verb, getattr(self._api, verb))

    def report_event(self, event: Event, now: float) -> Exchange[Report | None]:
        """Ask about the invoice that the event names. None where it names none."""
        if event.invoice is None:
            return None
        report = yield from self._report(event.invoice)
        return evolve(report, event_id=event.id)

    def report_invoice(self, invoice: Invoice) -> Exchange[Report]:
        """The invoice, read again for the bytes of the answer."""
        return (yield from self._report(invoice.id))

    def _report(self, invoice_id: str) -> Exchange[Report]:
        """What the bank shows. Settled money and refunds done count, since the answer itself confirms them."""
        invoice, answer = yield from heard(self._api.invoice(invoice_id))
        done = [(one.id, StatementKind.SETTLEMENT) for one in invoice.movements if one.stage is Stage.SETTLED]
        done += [(one.id, StatementKind.REFUND) for one in invoice.refunds if one.stage is RefundStage.DONE]
        bare = yield from self._api.report_invoice(evolve(invoice, movements=(), refunds=()))  # asks nothing more
        return evolve(
            bare,
            digest=hashlib.sha256(answer.body).hexdigest(),
            movements=invoice.movements,
            refunds=invoice.refunds,
            confirmations=tuple(evidence.authenticate_stored(kept(self.name, answer, *one)) for one in done),
        )


def heard(exchange: Exchange[T]) -> Exchange[tuple[T, Response]]:
    """Run the exchange as it is, and return what it returns with the last answer that it got for it."""
    answer: Any = None
    news: Any = None
    while True:
        try:
            step = exchange.send(news)
        except StopIteration as end:
            return end.value, answer
        news = yield step
        answer = news if isinstance(news, Response) and news.request.route == "GET /invoices/{id}" else answer


def kept(bank: str, answer: Response, subject: str, kind: StatementKind) -> Evidence:
    """The answer as evidence of what happened to one payment or refund in it; `claims` reads it, today and later."""
    told = {evidence.READ_BY: "harbour", "bank": bank, "subject": subject, "body": answer.body.decode()}
    at = datetime.fromtimestamp(answer.at, UTC)
    return Evidence(Proof.CHANNEL, kind, strict_json.dumps(told).decode(), '{"keys":[]}', at)


def claims(stored: Evidence) -> dict[str, Any]:
    """What stored evidence says, in the words of a signed statement; an entry point names this function."""
    told = strict_json.parse(stored.content.encode())
    invoice = strict_json.parse(told["body"].encode())
    one = next(each for each in [*invoice["movements"], *invoice["refunds"]] if each["id"] == told["subject"])
    about = {"iss": told["bank"], "aud": invoice["merchant"], "iat": int(stored.at.timestamp())}
    what = {"movement": one["id"], "refund": one["id"], "refund_reference": one.get("reference")}
    when = {"accepted_at": one["accepted_at"]} if "accepted_at" in one else {}
    return {**invoice, **about, **what, **when, "invoice": invoice["id"], "units": one["units"]}
