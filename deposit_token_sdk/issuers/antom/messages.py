"""What Antom's signed messages say: readers of `inquiryPayment`, `inquiryRefund` and notifications, and their claims.

An answer to `inquiryPayment` is the proof of a payment and of its refunds: it is signed as a whole and names them all.
It is kept as it came, and read by the same code live and years later. One thing in it is ours: the payment's token,
which Antom knows by payment method and currency; both are compared. A refund is requested under
``<payment>_<refund>``, the shop's two references, so that any message about it says of which payment it is.
"""

from __future__ import annotations

import hashlib
import zlib
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

from attrs import frozen

from deposit_token_sdk.errors import NotGenuine, Unreadable
from deposit_token_sdk.evidence import READ_BY
from deposit_token_sdk.issuers.antom import amounts
from deposit_token_sdk.issuers.antom.options import SANDBOX, Method
from deposit_token_sdk.issuers.antom.words import REFUND_STAGES, STAGES, word_of
from deposit_token_sdk.lifecycle import RefundStage, Stage, Word
from deposit_token_sdk.models import Evidence, Mode, Movement, Proof, Refund, StatementKind
from deposit_token_sdk.signing import rsa256, strict_json
from deposit_token_sdk.signing.base64url import encode_url
from deposit_token_sdk.signing.keys import KeySet, VerificationKey
from deposit_token_sdk.signing.rsa256 import Message

INQUIRY: Final = "/payments/inquiryPayment"
INSTALLATION: Final = 8
"""Characters of a reference that are the installation's id."""
_JOINED: Final = "_"


@frozen
class Lock:
    """A rate lock: `price` is quote currency for one unit of base currency. Without one, both are the same."""

    quote: str
    base: str
    counter: str
    price: Decimal

    @property
    def pair(self) -> str:
        """As Antom writes it."""
        return f"{self.base}/{self.counter}"

    @property
    def digest(self) -> str:
        """By which quote, invoice and confirmation name it: base64url of SHA-256 over id, pair and price."""
        text = f"{self.quote}\n{self.pair}\n{self.price.normalize():f}"
        return encode_url(hashlib.sha256(text.encode()).digest())


def no_lock(currency: str) -> Lock:
    """Where nothing is exchanged: rate 1, and no quote of Antom's."""
    return Lock("", currency, currency, Decimal(1))


@frozen
class Payment:
    """A payment as `inquiryPayment` shows it. `paid` are its movements, `version` changes with what is shown."""

    reference: str
    id: str | None
    status: str
    word: Word | None
    method: str | None
    currency: str
    due: int
    lock: Lock
    expires_at: datetime | None
    paid: tuple[Movement, ...]
    refunds: tuple[Refund, ...]

    @property
    def version(self) -> int:
        """A number for what is shown: equal news, equal number."""
        told = [(paid.id, paid.word, paid.units) for paid in self.paid]
        told += [(refund.id, refund.word, refund.units) for refund in self.refunds]
        return zlib.crc32(repr((self.status, told)).encode())


def read_payment(body: dict[str, Any]) -> Payment:
    """The answer to `inquiryPayment`. Raises Unreadable, naming the member."""
    reference = strict_json.text(body, "paymentRequestId")
    status = strict_json.text(body, "paymentStatus")
    currency, due = amounts.read(body, "paymentAmount")
    quote = None if body.get("paymentQuote") is None else strict_json.member(body, "paymentQuote")
    paid = _movements(body, status, currency)
    short = sum(moved.units for moved in paid if moved.stage is Stage.SETTLED) < due
    return Payment(
        reference=reference,
        id=strict_json.optional_text(body, "paymentId"),
        status=status,
        word=word_of(status, strict_json.optional_text(body, "paymentResultCode") or "", short=short),
        method=strict_json.optional_text(body, "paymentMethodType"),
        currency=currency,
        due=due,
        lock=no_lock(currency) if quote is None else read_lock(quote),
        expires_at=None if quote is None else moment(quote, "quoteExpiryTime"),
        paid=paid,
        refunds=_refunds(body, reference, currency),
    )


def read_lock(quote: dict[str, Any]) -> Lock:
    """A Quote. Raises Unreadable."""
    pair = strict_json.text(quote, "quoteCurrencyPair")
    base, slash, counter = pair.partition("/")
    if not slash or "/" in counter:
        raise Unreadable("bad_value", f"The pair {pair[:40]!r} is no two currencies.", field="quoteCurrencyPair")
    return Lock(strict_json.text(quote, "quoteId"), base, counter, amounts.number(quote, "quotePrice"))


def moment(obj: dict[str, Any], name: str) -> datetime | None:
    """A time that may be absent. Raises Unreadable."""
    text = strict_json.optional_text(obj, name)
    return None if text is None else rsa256.moment(text)


def _movements(body: dict[str, Any], status: str, currency: str) -> tuple[Movement, ...]:
    """The payment itself, and further ones under the same request where Antom lists any."""
    found: list[Movement] = []
    payment = strict_json.optional_text(body, "paymentId")
    if payment is not None:
        paid = "actualPaymentAmount" if body.get("actualPaymentAmount") is not None else "paymentAmount"
        at = moment(body, "paymentTime") or moment(body, "paymentCreateTime")
        found.append(_movement(payment, status, _in(currency, body, paid), at))
    for one in _transactions(body, "PAYMENT"):
        status = strict_json.text(one, "transactionStatus")
        units = _in(currency, one, "transactionAmount")
        found.append(_movement(strict_json.text(one, "transactionId"), status, units, moment(one, "transactionTime")))
    return tuple(found)


def _movement(payment: str, status: str, units: int, at: datetime | None) -> Movement:
    if at is None:
        raise Unreadable("missing_field", f"The payment {payment[:64]!r} has no time.", field="paymentTime")
    return Movement(payment, STAGES.get(status, Stage.UNKNOWN), units, at.astimezone(UTC), status)


def _refunds(body: dict[str, Any], reference: str, currency: str) -> tuple[Refund, ...]:
    return tuple(
        _refund(
            strict_json.text(one, "transactionId"),
            strict_json.text(one, "transactionRequestId"),
            _in(currency, one, "transactionAmount"),
            strict_json.text(one, "transactionStatus"),
            reference,
        )
        for one in _transactions(body, "REFUND")
    )


def read_refund(body: dict[str, Any]) -> tuple[Refund, str]:
    """The answer to `inquiryRefund`, and the currency of its amount. Raises Unreadable."""
    currency, units = amounts.read(body, "refundAmount")
    request = strict_json.text(body, "refundRequestId")
    status = strict_json.text(body, "refundStatus")
    return _refund(strict_json.text(body, "refundId"), request, units, status, split(request)[0]), currency


def _refund(bank_id: str, request: str, units: int, status: str, payment: str) -> Refund:
    mine, reference = split(request)
    stage = REFUND_STAGES.get(status, RefundStage.UNKNOWN)
    return Refund(bank_id, reference if mine == payment else request, payment, units, stage, status)


def is_behind(payment: Payment, notified: dict[str, Any]) -> bool:
    """Whether a payment as it is shown has not come as far as a notification about it, or about a refund of it, has."""
    stage = REFUND_STAGES.get(str(notified.get("refundStatus")))
    if stage is not None:
        mine = split(str(notified.get("refundRequestId")))[1]
        return stage > max(
            (one.stage for one in payment.refunds if one.reference == mine), default=RefundStage.REQUESTED
        )
    told = notified.get("result")
    paid = notified.get("notifyType") == "PAYMENT_RESULT" and isinstance(told, dict) and told.get("resultStatus") == "S"
    return paid and STAGES.get(payment.status) is Stage.SEEN


def joined(payment: str, refund: str) -> str:
    """The `refundRequestId` of a refund (at most 64 characters)."""
    return f"{payment}{_JOINED}{refund}"


def split(request: str) -> tuple[str, str]:
    """Payment and refund of a `refundRequestId`; no payment where it is not one of ours."""
    payment, _, refund = request.rpartition(_JOINED)
    return payment, refund


def installation_of(reference: str) -> str:
    """The installation that made a reference."""
    return reference[:INSTALLATION]


def mode_of(client: str) -> Mode:
    """The mode of a client id."""
    return Mode.TEST if client.startswith(SANDBOX) else Mode.LIVE


def _transactions(body: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    if body.get("transactions") is None:
        return []
    return [one for one in strict_json.members(body, "transactions") if one.get("transactionType") == kind]


def _in(currency: str, body: dict[str, Any], name: str) -> int:
    told, units = amounts.read(body, name)
    if told != currency:
        raise Unreadable("bad_value", f"{name!r} is in {told}, but the payment is in {currency}.", field=name)
    return units


# -- evidence ------------------------------------------------------------------------------------------------------


def evidence_of(
    message: Message,
    signature: str,
    key: VerificationKey,
    method: Method,
    issuer: str,
    subject: str,
    kind: StatementKind,
) -> Evidence:
    """The signed answer, as it is kept for one payment or refund in it (`subject`)."""
    content = {
        READ_BY: "antom",
        "issuer": issuer,
        "token": str(method),
        "subject": subject,
        "path": message.path,
        "client": message.client,
        "time": message.time,
        "signature": signature,
        "body": message.body.decode(),
    }
    keys = strict_json.dumps(KeySet((key,)).jwks()).decode()
    at = rsa256.moment(message.time).astimezone(UTC)
    return Evidence(Proof.SIGNED_MESSAGE, kind, strict_json.dumps(content).decode(), keys, at)


def claims(evidence: Evidence) -> dict[str, Any]:
    """What stored evidence says, once its signature has been verified with the keys beside it.

    Raises NotGenuine (see `rsa256.verify`; ``wrong_path``, ``not_shown``), Unreadable.
    """
    kept = strict_json.parse(evidence.content.encode())
    path, client, time, body = (strict_json.text(kept, name) for name in ("path", "client", "time", "body"))
    message = Message(path, client, time, body.encode())
    rsa256.verify(message, strict_json.text(kept, "signature"), KeySet.from_jwks(evidence.keys.encode()))
    if not message.path.endswith(INQUIRY):
        raise NotGenuine("wrong_path", f"An answer of {message.path[:80]!r} proves no payment; {INQUIRY} does.")
    payment = read_payment(strict_json.parse(message.body))
    method = Method.parse(strict_json.text(kept, "token"))
    if method is None or method.currency != payment.currency or payment.method not in (None, method.method):
        told = f"The payment is in {payment.currency} by {payment.method}, which is not {kept['token'][:100]!r}."
        raise NotGenuine("other_token", told)
    common = {
        "iss": strict_json.text(kept, "issuer"),
        "aud": message.client,
        "iat": int(rsa256.moment(message.time).timestamp()),
        "installation": installation_of(payment.reference),
        "mode": mode_of(message.client).value,
        "invoice": payment.reference,
        "reference": payment.reference,
        "token": method.code,
        "quote_digest": payment.lock.digest,
    }
    return common | _shown(payment, evidence.kind, strict_json.text(kept, "subject"))


def _shown(payment: Payment, kind: StatementKind, subject: str) -> dict[str, Any]:
    if kind is StatementKind.SETTLEMENT:
        for moved in payment.paid:
            if moved.id == subject and moved.stage is Stage.SETTLED:
                accepted = strict_json.rfc3339(moved.accepted_at)
                return {"movement": moved.id, "units": str(moved.units), "accepted_at": accepted}
    if kind is StatementKind.REFUND:
        for refund in payment.refunds:
            if refund.id == subject and refund.stage is RefundStage.DONE:
                return {"refund": refund.id, "refund_reference": refund.reference, "units": str(refund.units)}
    raise NotGenuine("not_shown", f"The message shows no {kind} {subject[:64]!r} that is done.")
