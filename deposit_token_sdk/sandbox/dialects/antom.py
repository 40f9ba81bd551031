"""Antom's API over this bank: payment sessions, rate locks, refunds and notifications, signed both ways with RSA256.

Paths are Antom's own, /ams/api/v1 and /ams/sandbox/api/v1: a bank in mode test serves the second to client ids that
begin with SANDBOX_, one in mode live the first to others. A payment method is a token of this bank, whose smallest
unit must be Antom's minor unit. Every answer but to an unknown client is HTTP 200 and signed, refusals included.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, TypeAlias
from urllib.parse import urlsplit

from attrs import evolve, frozen
from flask import Blueprint, Response, request
from sqlalchemy import RowMapping

from deposit_token_sdk.errors import NotGenuine, Unreadable
from deposit_token_sdk.sandbox import clock, invoices, keyring, quotes, refunds
from deposit_token_sdk.sandbox.bank import Bank, fact, merchant_of
from deposit_token_sdk.sandbox.desk import Desk, new_id
from deposit_token_sdk.sandbox.dialects import antom_json as wire
from deposit_token_sdk.sandbox.dialects.trouble import Trouble
from deposit_token_sdk.sandbox.key_files import private_key
from deposit_token_sdk.sandbox.problems import Refused
from deposit_token_sdk.sandbox.tables import merchants, movements, rows, undoable
from deposit_token_sdk.sandbox.tables import refunds as refund_table
from deposit_token_sdk.signing import rsa256, strict_json
from deposit_token_sdk.signing.keys import Algorithm, KeySet, SigningKey
from deposit_token_sdk.signing.rsa256 import Message

LIVE, SANDBOX = "/ams/api/v1", "/ams/sandbox/api/v1"
_CLIENT: Final = "SANDBOX_"
_VERSION: Final = "1"
_SKEW: Final = 300.0
_KEY: Final = "antom key"
_INSTALLATION: Final = "antom"
"""What the bank writes where its own API has the shop's installation: Antom's has none."""
_COMMON: Final = ("DEPOSIT_TOKEN_BANK", "DEPOSIT_TOKEN_URL", "DEPOSIT_TOKEN_MODE", "DEPOSIT_TOKEN_CA_BUNDLE")

Answer: TypeAlias = tuple[str, str, dict[str, Any]]
"""Code and status of a result, and the members beside it."""
Decision: TypeAlias = Callable[[Desk, str, dict[str, Any]], Answer]


@frozen
class Operation:
    """One operation; `route` is the reference API's that does the same, `named` the members that name something."""

    path: str
    route: str
    named: tuple[str, ...]
    decide: Decision


def blueprint(bank: Bank) -> Blueprint:
    """Antom's routes."""
    made = Blueprint("antom", __name__)
    for prefix in (LIVE, SANDBOX):
        for operation in OPERATIONS:
            endpoint = f"{prefix}{operation.path}".replace("/", "_")
            made.add_url_rule(f"{prefix}{operation.path}", endpoint, _view(bank, operation), methods=["POST"])
    return made


def environment(desk: Desk, bank: Bank, folder: Path, settings: Mapping[str, str]) -> dict[str, str]:
    """What a merchant's shop is told. Its RSA key is made here, and the public half enrolled at the bank."""
    merchant = settings["DEPOSIT_TOKEN_MERCHANT"]
    path = folder / f"{merchant}-antom-key.pem"
    key = private_key(path, Algorithm.RS256, _VERSION)
    keyring.enrol(desk.db, merchant, evolve(key.verification_key(), kid=_kid(merchant)))
    shown = KeySet((_key(desk).verification_key(),)).jwks()
    return {
        **{name: value for name, value in settings.items() if name in _COMMON},
        "DEPOSIT_TOKEN_ISSUER": "antom",
        "DEPOSIT_TOKEN_MERCHANT": _client_of(merchant, bank.house.mode),
        "DEPOSIT_TOKEN_SIGNING_KEY_FILE": str(path.resolve()),
        "DEPOSIT_TOKEN_SIGNING_KEY_ID": _VERSION,
        "DEPOSIT_TOKEN_ANTOM_PUBLIC_KEY": json.dumps(shown, separators=(",", ":")),
        "DEPOSIT_TOKEN_ANTOM_TOKENS": " ".join(f"{token}={currency}:{token}" for token, currency in wire.METHODS),
    }


def message(desk: Desk, merchant: str, body: bytes) -> tuple[dict[str, str], bytes] | None:
    """notifyPayment or notifyRefund, signed for the merchant's address; None for news that Antom does not send."""
    news = json.loads(body)
    content = _notification(desk, news["type"], news["data"])
    if content is None:
        return None
    _, url = merchant_of(desk, merchant)
    client, time = _client_of(merchant, desk.house.mode), wire.written(clock.real_now())
    written = strict_json.dumps_exact(content)
    signed = Message(urlsplit(url or "").path or "/", client, time, written)
    headers = {
        "content-type": "application/json; charset=UTF-8",
        "client-id": client,
        "request-time": time,
        "signature": rsa256.sign(signed, _key(desk)),
    }
    return headers, written


def taken(status: int, answer: str) -> bool:
    """Whether a notification is done with: HTTP 200 with the result that Antom asks for, or it is sent again."""
    try:
        told = json.loads(answer)["result"]
        return status == 200 and (told["resultCode"], told["resultStatus"]) == ("SUCCESS", "S")
    except (ValueError, KeyError, TypeError):
        return False


def _notification(desk: Desk, kind: str, told: dict[str, Any]) -> dict[str, Any] | None:
    if kind in wire.PAYMENT_NEWS:
        code, status, notify = wire.PAYMENT_NEWS[kind]
        row = desk.invoice(told["invoice"])
        shown = _shown(desk, row, told.get("movement", {}).get("id"))
        kept = ("paymentId", "paymentAmount", "actualPaymentAmount", "paymentCreateTime", "paymentTime")
        about = {name: shown[name] for name in kept if name in shown}
        return {
            "notifyType": notify,
            **wire.result(code, status),
            "paymentRequestId": shown["paymentRequestId"],
            **about,
        }
    if kind in wire.REFUND_NEWS:
        refund = desk.refund(told["refund"]["id"])
        return {"notifyType": "REFUND_RESULT", **wire.result("SUCCESS", "S"), **_refund_shown(desk, refund)}
    return None


# -- the edge ------------------------------------------------------------------------------------------------------


def _view(bank: Bank, operation: Operation) -> Callable[[], Response]:
    def view() -> Response:
        body = request.get_data()
        known, refusal = _who(bank, body)
        if known is None:
            return _written(wire.result(refusal, "F"))
        key = wire.signing_key(bank.fact(_KEY, _new_key), _VERSION)
        client, merchant = known
        if refusal:
            return _signed(wire.result(refusal, "F"), client, key)
        try:
            asked = strict_json.parse(body)
        except Unreadable as error:
            return _signed(wire.result("PARAM_ILLEGAL", "F", str(error)), client, key)
        named = tuple(_reference(value) for name in operation.named if isinstance(value := asked.get(name), str))
        trouble = Trouble.of(bank, named, operation.route)
        trouble.delay()
        if trouble.strikes("error_before"):
            return Response("Service Unavailable\n", 503)
        if trouble.strikes("rate_limited"):
            return _signed(wire.result("REQUEST_TRAFFIC_EXCEED_LIMIT", "U"), client, key)
        if trouble.strikes("kept_error"):
            return Response("Internal Server Error\n", 500)
        answer = _decided(bank, operation, merchant, asked)
        if trouble.strikes("kept_error_after"):
            return Response("Internal Server Error\n", 500)
        if trouble.strikes("error_after"):
            answer = wire.result("UNKNOWN_EXCEPTION", "U")
        return trouble.spoil(_signed(answer, client, key))

    return view


def _decided(bank: Bank, operation: Operation, merchant: str, asked: dict[str, Any]) -> dict[str, Any]:
    """What the bank has decided, and said in Antom's words; a refusal leaves nothing done."""
    try:
        with bank.desk() as desk, undoable(desk.db):
            code, status, told = operation.decide(desk, merchant, asked)
    except Refused as refused:
        return wire.result(wire.REFUSALS.get(refused.code, "PROCESS_FAIL"), "F", f"{refused.code}: {refused.detail}")
    except Unreadable as error:
        return wire.result("PARAM_ILLEGAL", "F", str(error))
    return {**wire.result(code, status), **told}


def _who(bank: Bank, body: bytes) -> tuple[tuple[str, str] | None, str]:
    """Client id and merchant, and the code of a refusal; no client where it is not one of this bank's."""
    client = request.headers.get("Client-Id", "")
    merchant = _merchant_of(client, bank.house.mode)
    with bank.reading() as db:
        listed = db.execute(rows(merchants, "id"), {"id": merchant}).first()
        keys = keyring.keys_of(db, merchant or "")
    if merchant is None or listed is None:
        return None, "KEY_NOT_FOUND"
    known = (client, merchant)
    if request.path.startswith(SANDBOX) is not (bank.house.mode == "test"):
        return known, "ACCESS_DENIED"
    try:
        message, signature = rsa256.read(
            dict(request.headers), body, path=request.path, time_header=rsa256.REQUEST_TIME
        )
        enrolled = keys.require(_kid(merchant), None)
        rsa256.verify(message, signature, KeySet((evolve(enrolled, kid=_VERSION),)))
        rsa256.require_fresh(message, now=clock.real_now().timestamp(), skew=_SKEW)
    except (NotGenuine, Unreadable) as error:
        return known, "KEY_NOT_FOUND" if error.reason == "key_unknown" else "INVALID_SIGNATURE"
    return known, ""


def _signed(answer: Mapping[str, Any], client: str, key: SigningKey) -> Response:
    made = _written(answer)
    time = wire.written(clock.real_now())
    made.headers["client-id"] = client
    made.headers["response-time"] = time
    made.headers["signature"] = rsa256.sign(Message(request.path, client, time, made.get_data()), key)
    return made


def _written(answer: Mapping[str, Any]) -> Response:
    return Response(strict_json.dumps_exact(dict(answer)), 200, content_type="application/json; charset=UTF-8")


def _key(desk: Desk) -> SigningKey:
    """The key that Antom signs with here; made when it is first needed."""
    return wire.signing_key(fact(desk.db, _KEY, _new_key), _VERSION)


def _new_key() -> str:
    return SigningKey.generate(Algorithm.RS256, _VERSION).to_pem().decode("ascii")


def _kid(merchant: str) -> str:
    """How the bank's books name the merchant's key for this API."""
    return f"antom-{merchant}-{_VERSION}"


def _client_of(merchant: str, mode: str) -> str:
    return f"{_CLIENT}{merchant}" if mode == "test" else merchant


def _merchant_of(client: str, mode: str) -> str | None:
    if client.startswith(_CLIENT) is not (mode == "test"):
        return None
    return client.removeprefix(_CLIENT)


# -- the operations ------------------------------------------------------------------------------------------------


def _create_quote(desk: Desk, merchant: str, asked: dict[str, Any]) -> Answer:
    """A price lock for no reference yet: a session gives it one."""
    bought = wire.read_amount(asked, "buyAmount")
    sold = strict_json.text(strict_json.member(asked, "sellAmount"), "currency")
    if strict_json.text(asked, "exchangeTradeType") != "SPOT":
        raise Refused("malformed", "exchangeTradeType is SPOT.")
    row = _priced(desk, merchant, f"Q{new_id('q')[2:]}", bought, wire.token_in(sold))
    exchanged = {"currency": sold, "value": str(row["due"])}
    told = wire.quote(row, desk.now) | {"exchangeAmount": exchanged}
    return "SUCCESS", "S", {"buyAmount": bought.shown, "sellAmount": exchanged, "quote": told}


def _priced(desk: Desk, merchant: str, reference: str, price: wire.Amount, token: str) -> RowMapping:
    asked = {
        "reference": reference,
        "installation": _INSTALLATION,
        "mode": desk.house.mode,
        "price": {"currency": price.currency, "amount": price.plain},
        "token": token,
        "bearer": "CRED",
    }
    return quotes.find(desk, quotes.create(desk, merchant, asked)["id"], merchant)


def _exchange_rate(desk: Desk, _merchant: str, asked: dict[str, Any]) -> Answer:
    told = []
    for pair in strict_json.members(asked, "currencyPairs"):
        base, counter = strict_json.text(pair, "buyCurrency"), strict_json.text(pair, "sellCurrency")
        rate = quotes.current_rate(desk, wire.token_in(counter), base)
        told.append(wire.indication(base, counter, rate, desk.now))
    return "SUCCESS", "S", {"quotes": told}


def _create_session(desk: Desk, merchant: str, asked: dict[str, Any]) -> Answer:
    """An invoice under the lock; the same request again is answered with the same session."""
    request_id = wire.read_id(asked, "paymentRequestId")
    reference = _known_as(desk, request_id)
    print_ = sha256(strict_json.dumps_exact(asked)).hexdigest()
    named = f"antom session {merchant} {reference}"
    known = invoices.of_reference(desk, merchant, reference)
    if known is not None:
        if fact(desk.db, named, lambda: "") != print_:
            raise Refused("idempotency_key_reused", "paymentRequestId came with another session before.")
        if known["status"] in ("expired", "cancelled"):
            raise Refused("invoice_not_open", f"The session is {known['status']}.")
        return "SUCCESS", "S", _session(desk, known)
    if strict_json.text(asked, "productCode") != "CASHIER_PAYMENT":
        raise Refused("malformed", "productCode is CASHIER_PAYMENT.")
    order = wire.read_amount(strict_json.member(asked, "order"), "orderAmount")
    due = wire.read_amount(asked, "paymentAmount")
    token = wire.token_of(strict_json.text(strict_json.member(asked, "paymentMethod"), "paymentMethodType"), due)
    quote = _lock(desk, merchant, asked, reference, order, token)
    if (quote["currency"], quote["amount"]) != (order.currency, order.plain):
        raise Refused("digest_mismatch", "The rate lock is for another order amount.")
    if quote["token"] != token or quote["due"] != due.units:
        raise Refused("digest_mismatch", f"At that rate {quote['due']} minor units of {quote['token']} are due.")
    made = invoices.create(
        desk,
        merchant,
        {
            "reference": reference,
            "installation": _INSTALLATION,
            "mode": desk.house.mode,
            "quote": quote["id"],
            "quote_digest": quote["digest"],
            "capture": "automatic",
            "return_url": strict_json.text(asked, "paymentRedirectUrl"),
        },
    )
    fact(desk.db, named, lambda: print_)
    return "SUCCESS", "S", _session(desk, desk.invoice(made["id"]))


def _lock(
    desk: Desk, merchant: str, asked: dict[str, Any], reference: str, order: wire.Amount, token: str
) -> RowMapping:
    """The quote that the session names, or one within the token's own currency."""
    if asked.get("paymentQuote") is None:
        if order.currency != wire.currency_of(token):
            raise Refused("malformed", "Order and payment are in two currencies: paymentQuote is due.")
        row = _priced(desk, merchant, reference, order, token)
    else:
        row = quotes.find(desk, strict_json.text(strict_json.member(asked, "paymentQuote"), "quoteId"), merchant)
    terms = {"reference": reference, "installation": _INSTALLATION}
    return quotes.assign(desk, row, terms, wire.read_moment(asked, "paymentSessionExpiryTime"))


def _session(desk: Desk, row: RowMapping) -> dict[str, Any]:
    page = invoices.document(desk, row)["pay_url"]
    return {
        "paymentSessionId": row["id"],
        "paymentSessionData": row["pay_code"],
        "paymentSessionExpiryTime": wire.written(row["expires_at"]),
        "normalUrl": page,
        "url": page,
    }


def _inquire(desk: Desk, merchant: str, asked: dict[str, Any]) -> Answer:
    """By paymentId, which wins, or by paymentRequestId."""
    row = _asked_about(desk, merchant, asked)
    return "SUCCESS", "S", _shown(desk, row)


def _asked_about(desk: Desk, merchant: str, asked: dict[str, Any]) -> RowMapping:
    payment = strict_json.optional_text(asked, "paymentId")
    if payment is not None:
        moved = desk.db.execute(rows(movements, "id"), {"id": payment}).one_or_none()
        return desk.invoice("" if moved is None else moved.invoice, merchant)
    row = invoices.of_reference(desk, merchant, _reference(wire.read_id(asked, "paymentRequestId")))
    if row is None:
        raise Refused("unknown_invoice", "There is no such payment.")
    return row


def _cancel(desk: Desk, merchant: str, asked: dict[str, Any]) -> Answer:
    row = _asked_about(desk, merchant, asked)
    invoices.cancel(desk, row)
    shown = _shown(desk, desk.invoice(row["id"]))
    told = {name: shown[name] for name in ("paymentId", "paymentRequestId") if name in shown}
    return "SUCCESS", "S", told | {"cancelTime": wire.written(desk.now)}


def _refund(desk: Desk, merchant: str, asked: dict[str, Any]) -> Answer:
    request_id = wire.read_id(asked, "refundRequestId")
    amount = wire.read_amount(asked, "refundAmount")
    row = _asked_about(desk, merchant, {"paymentId": strict_json.text(asked, "paymentId")})
    if amount.currency != wire.currency_of(row["token"]):
        raise Refused("unsupported_currency", "A refund is in the payment's currency.")
    known = _refund_of(desk, merchant, _reference(request_id))
    if known is None:
        made = refunds.create(
            desk,
            merchant,
            {
                "reference": _known_as(desk, request_id),
                "installation": _INSTALLATION,
                "mode": desk.house.mode,
                "invoice": row["id"],
                "units": str(amount.units),
            },
        )
        known = desk.refund(made["id"])
    elif (known["invoice"], known["units"]) != (row["id"], amount.units):
        raise Refused("idempotency_key_reused", "refundRequestId came with another refund before.")
    told = _refund_shown(desk, known) | {"paymentId": asked["paymentId"]}
    if known["status"] == "pending":
        return "REFUND_IN_PROCESS", "U", told
    if known["status"] != "done":
        raise Refused("internal", "The refund has failed: ask for another one.")
    return "SUCCESS", "S", told


def _inquire_refund(desk: Desk, merchant: str, asked: dict[str, Any]) -> Answer:
    """By refundId, or by refundRequestId."""
    refund_id = strict_json.optional_text(asked, "refundId")
    if refund_id is not None:
        return "SUCCESS", "S", _refund_shown(desk, desk.refund(refund_id, merchant))
    known = _refund_of(desk, merchant, _reference(wire.read_id(asked, "refundRequestId")))
    if known is None:
        raise Refused("unknown_refund", "There is no such refund.")
    return "SUCCESS", "S", _refund_shown(desk, known)


OPERATIONS: Final = (
    Operation("/aba/funds/createQuote", "POST /quotes", (), _create_quote),
    Operation("/payments/inquireExchangeRate", "GET /tokens", (), _exchange_rate),
    Operation("/payments/createPaymentSession", "POST /invoices", ("paymentRequestId",), _create_session),
    Operation("/payments/inquiryPayment", "GET /invoices/{id}", ("paymentRequestId", "paymentId"), _inquire),
    Operation("/payments/cancel", "POST /invoices/{id}/cancel", ("paymentRequestId", "paymentId"), _cancel),
    Operation("/payments/refund", "POST /refunds", ("refundRequestId", "paymentId"), _refund),
    Operation("/payments/inquiryRefund", "GET /refunds/{id}", ("refundRequestId", "refundId"), _inquire_refund),
)
"""Every operation of Antom's that is served, under both prefixes."""


# -- what is shown -------------------------------------------------------------------------------------------------


def _shown(desk: Desk, row: RowMapping, about: str | None = None) -> dict[str, Any]:
    """A payment as inquiryPayment shows it: the first that has come is the payment, others are transactions.

    `about`: the one that a notification is about; so two payments of the same amount are two pieces of news.
    """
    quote = quotes.find(desk, row["quote"])
    payments = [moved for moved in invoices.moves(desk, row["id"]) if moved["kind"] == "payment"]
    currency = wire.currency_of(row["token"])
    named = next((moved for moved in payments if moved["id"] == about), None)
    main = named or wire.first(payments, "settled") or wire.first(payments, "seen", "held")
    status, code = wire.standing(row["status"], main)
    told: dict[str, Any] = {
        "paymentStatus": status,
        "paymentResultCode": code,
        "paymentRequestId": _original(desk, row["reference"]),
        "paymentMethodType": row["token"],
        "paymentAmount": {"currency": currency, "value": str(row["due"])},
        "paymentCreateTime": wire.written(row["created_at"]),
    }
    if quote["currency"] != currency:
        told["paymentQuote"] = wire.quote(quote, row["created_at"])
    if main is not None:
        told |= {
            "paymentId": main["id"],
            "actualPaymentAmount": {"currency": currency, "value": str(main["units"])},
            "paymentCreateTime": wire.written(main["accepted_at"]),
        }
        if status == "SUCCESS":
            told["paymentTime"] = wire.written(main["accepted_at"])
    others = [wire.other_payment(moved, currency) for moved in payments if main is None or moved["id"] != main["id"]]
    sent_back = [
        wire.refund_transaction(each, currency, _original(desk, each["reference"]))
        for each in invoices.refunds_of(desk, row["id"])
    ]
    return told | ({"transactions": others + sent_back} if others or sent_back else {})


def _refund_shown(desk: Desk, refund: RowMapping) -> dict[str, Any]:
    currency = wire.currency_of(desk.invoice(refund["invoice"])["token"])
    return {
        "refundId": refund["id"],
        "refundRequestId": _original(desk, refund["reference"]),
        "refundAmount": {"currency": currency, "value": str(refund["units"])},
        "refundStatus": wire.REFUND_STATUSES[refund["status"]],
        "refundTime": wire.written(refund["created_at"]),
    }


def _refund_of(desk: Desk, merchant: str, reference: str) -> RowMapping | None:
    same = {"merchant": merchant, "reference": reference}
    return desk.db.execute(rows(refund_table, *same), same).mappings().one_or_none()


def _reference(request_id: str) -> str:
    """How the bank's books name a request id of up to 64 characters: as it stands where that will do."""
    return request_id if wire.is_reference(request_id) else f"x{sha256(request_id.encode()).hexdigest()}"[: wire.HASHED]


def _known_as(desk: Desk, request_id: str) -> str:
    """The same, and what it stands for is written down."""
    reference = _reference(request_id)
    if reference != request_id:
        fact(desk.db, f"antom id {reference}", lambda: request_id)
    return reference


def _original(desk: Desk, reference: str) -> str:
    """The request id that a reference stands for."""
    if len(reference) < wire.HASHED:
        return reference
    return fact(desk.db, f"antom id {reference}", lambda: reference)
