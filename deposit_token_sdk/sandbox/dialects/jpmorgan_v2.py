"""J.P. Morgan's Global Payments API, version 2 (2.0.22), as a dialect: `/payment/v2`, with its token address.

Whoever asks must have a token, which is had with an assertion signed by the merchant's RSA key. Webhooks come in both
published shapes, the list of events and the CloudEvent, by turns.
"""

from __future__ import annotations

import json
import secrets
import threading
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs

from attrs import frozen
from flask import Blueprint, Response, request

from deposit_token_sdk.errors import NotGenuine, Unreadable
from deposit_token_sdk.sandbox import clock, memory, payments
from deposit_token_sdk.sandbox.bank import Bank
from deposit_token_sdk.sandbox.desk import Desk, new_id
from deposit_token_sdk.sandbox.dialects import jpmorgan
from deposit_token_sdk.sandbox.dialects.serving import Serving, kept
from deposit_token_sdk.sandbox.memory import Kept
from deposit_token_sdk.sandbox.payments import Order, Shown
from deposit_token_sdk.sandbox.problems import Refused
from deposit_token_sdk.signing import rs256, strict_json

TOKEN_LIFE: Final = 600
"""Seconds, of real time."""
_ASSERTION: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_STATES: Final = {
    "processing": ("PROCESSING", "PENDING_POSTING"),
    "completed": ("COMPLETED", "COMPLETED_BY_JPM"),
    "returned": ("RETURNED", "RETURNED"),
    "rejected": ("REJECTED", "REJECTED_BY_JPM"),
}
_CODES: Final = {
    "malformed": "10101",
    "idempotency_key_reused": "10106",
    "idempotency_key_in_use": "10107",
    "unsupported_currency": "11502",
    "reference_taken": "11503",
    "unknown_invoice": "11504",
    "refund_exceeds": "11505",
    "insufficient_balance": "11506",
    "signature_invalid": "14000",
    "internal": "15000",
}
_TITLES: Final = {400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found", 429: "Too Many Requests"}


class _Tokens:
    """The tokens given out; a restarted bank knows none of them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[str, tuple[str, float]] = {}

    def give(self, merchant: str, now: float) -> str:
        token = secrets.token_urlsafe(32)
        with self._lock:
            self._known = {text: kept for text, kept in self._known.items() if kept[1] > now}
            self._known[token] = (merchant, now + TOKEN_LIFE)
        return token

    def owner(self, token: str, now: float) -> str | None:
        with self._lock:
            merchant, until = self._known.get(token, ("", 0.0))
        return merchant if now < until else None


def blueprint(bank: Bank) -> Blueprint:
    """The dialect's routes for one bank."""
    api = _Api(bank, Serving(bank, _refusal), _Tokens())
    routes = Blueprint("jpmorgan", __name__)
    routes.add_url_rule(jpmorgan.TOKEN_PATH, "token", api.token, methods=["POST"])
    routes.add_url_rule("/payment/v2/payments", "initiate", api.initiate, methods=["POST"])
    routes.add_url_rule("/payment/v2/payments", "find", api.find, methods=["GET"])
    routes.add_url_rule("/payment/v2/payments/<payment>", "detail", api.detail, methods=["GET"])
    routes.add_url_rule("/payment/v2/payments/<payment>/status", "status", api.status, methods=["GET"])
    return routes


@frozen
class _Api:
    """The operations of the document, for one bank."""

    bank: Bank
    serving: Serving
    tokens: _Tokens

    def token(self) -> Response:
        """An access token for a client that signs its assertion."""
        try:
            with self.bank.desk() as desk:
                merchant = _client(desk, parse_qs(request.get_data(as_text=True)))
        except (NotGenuine, Unreadable, Refused) as error:
            told = {"error": "invalid_client", "error_description": str(error)[:200]}
            return Response(json.dumps(told), 400, content_type="application/json")
        given = {"access_token": self.tokens.give(merchant, _now()), "token_type": "bearer", "expires_in": TOKEN_LIFE}
        return Response(json.dumps(given), content_type="application/json")

    def initiate(self) -> Response:
        """`POST /payments`."""
        key = request.headers.get("Idempotency-Key", "")
        if len(key) > 36:
            return _refusal(Refused("malformed", "Idempotency-Key has at most 36 characters."))
        try:
            merchant = self._owner()
            order = _order(strict_json.parse(request.get_data()))
        except Refused as refused:
            return _refusal(refused)
        except Unreadable as error:
            return _refusal(Refused("malformed", str(error)))

        def work(desk: Desk) -> Kept:
            number = payments.initiate(desk, merchant, order)
            return kept(202, {"endToEndId": order.reference, "paymentId": number})

        return self.serving.serve("POST /payments", (order.reference,), work, merchant, key)

    def find(self) -> Response:
        """`GET /payments?endToEndId=…&view=…`."""
        reference, view = request.args.get("endToEndId", ""), request.args.get("view", "")
        if not reference or view not in ("SUMMARY", "FULL"):
            return _refusal(Refused("malformed", "endToEndId and view are required."))

        def work(desk: Desk) -> Kept:
            found = payments.find(desk, reference, self._owner())
            if not found:
                raise Refused("not_found", "There is no payment of this endToEndId.")
            return kept(200, {"payments": [_detail(one, full=view == "FULL") for one in found]})

        return self.serving.serve("GET /payments", (reference,), work)

    def detail(self, payment: str) -> Response:
        """`GET /payments/{paymentId}`."""

        def work(desk: Desk) -> Kept:
            return kept(200, _detail(_one(desk, payment, self._owner()), full=True))

        return self.serving.serve("GET /payments/{id}", (payment,), work)

    def status(self, payment: str) -> Response:
        """`GET /payments/{paymentId}/status`."""

        def work(desk: Desk) -> Kept:
            return kept(200, _status(_one(desk, payment, self._owner())))

        return self.serving.serve("GET /payments/{id}/status", (payment,), work)

    def _owner(self) -> str:
        scheme, _, text = request.headers.get("Authorization", "").partition(" ")
        merchant = self.tokens.owner(text, _now()) if scheme == "Bearer" else None
        if merchant is None:
            raise Refused("signature_invalid", "There is no such token, or it has ended.")
        return merchant


def environment(desk: Desk, bank: Bank, folder: Path, settings: Mapping[str, str]) -> dict[str, str]:
    """The settings of a shop that speaks this dialect."""
    return jpmorgan.environment(2, desk, bank, folder, settings)


def message(desk: Desk, merchant: str, body: bytes) -> tuple[dict[str, str], bytes] | None:
    """A webhook of this bank in one of the two published shapes; None if it is about no payment."""
    told = strict_json.parse(body)
    data = strict_json.member(told, "data")
    reference = data["refund"]["reference"] if "refund" in data else data.get("reference", "")
    found = payments.find(desk, reference, merchant)
    if not found:
        return None
    last = found[-1]
    version = strict_json.integer(data, "version")
    time = strict_json.text(told, "timestamp")  # the same at each try, for it is the same event
    name = f"{last.id}-{version}-{last.state}"  # what has changed until then is another
    if version % 2:
        shape: dict[str, Any] = {"events": [{"eventId": name, "eventTimestamp": time, **_status(last)}]}
    else:
        word = _STATES[last.state][0].title()
        shape = {
            "id": name,
            "specversion": "1.0",
            "type": f"PaymentInstruction.{word}",
            "time": time,
            "source": "/payment/v2/payments",
            "data": {"payments": [_status(last)]},
        }
    return {"content-type": "application/json", "user-agent": "deposit-token-sandbox"}, strict_json.dumps(shape)


def _client(desk: Desk, form: Mapping[str, list[str]]) -> str:
    """The merchant whose assertion this is. Raises NotGenuine, Unreadable, Refused."""
    given = {name: values[0] for name, values in form.items()}
    merchant = given.get("client_id", "")
    if given.get("grant_type") != "client_credentials" or given.get("client_assertion_type") != _ASSERTION:
        raise Refused("malformed", "client_credentials with a JWT assertion is served here, and nothing else.")
    for key in jpmorgan.keys(desk, merchant):
        claims = strict_json.parse(rs256.verify_compact(given.get("client_assertion", ""), key, kid=key.kid))
        who = (claims.get("iss"), claims.get("sub"))
        now, url = desk.real.timestamp(), str(claims.get("aud"))
        if who != (merchant, merchant) or not url.endswith(f"//{request.host}{jpmorgan.TOKEN_PATH}"):
            raise Refused("signature_invalid", "The assertion is another client's, or for another address.")
        if not now - 300 <= strict_json.integer(claims, "iat") <= now + 300 or strict_json.integer(claims, "exp") < now:
            raise Refused("signature_invalid", "The assertion is not fresh.")
        if memory.nonce_seen(desk.db, key.kid, strict_json.text(claims, "jti"), desk.real):
            raise Refused("signature_invalid", "The assertion was used before.")
        return merchant
    raise Refused("signature_invalid", f"There is no client {merchant[:40]!r} with an RSA key.")


def _order(body: dict[str, Any]) -> Order:
    for name, due in (("transferType", "CREDIT"), ("paymentType", "BLOCKCHAIN")):
        if strict_json.text(body, name) != due:
            raise Refused("malformed", f"{name} {due} is served here.")
    value = strict_json.member(body, "value")
    for side in ("debtor", "creditor"):
        agents = strict_json.members(strict_json.member(body, f"{side}Agent"), "financialInstitutionIds")
        if all(agent.get("idType") != "BIC" for agent in agents):
            raise Refused("malformed", f"{side}Agent needs a BIC for these payments.")
    return Order(
        reference=strict_json.text(strict_json.member(body, "paymentIdentifiers"), "endToEndId"),
        currency=strict_json.text(value, "currency"),
        amount=strict_json.plain(value, "amount"),
        debtor=_number(body, "debtor"),
        creditor=_number(body, "creditor"),
        text=_text(body),
        on=strict_json.text(body, "requestedExecutionDate"),
    )


def _number(body: dict[str, Any], side: str) -> str:
    account = strict_json.member(strict_json.member(body, side), "account")
    if strict_json.text(account, "accountType") not in ("BDA", "DDA"):
        raise Refused("malformed", "accountType is BDA or DDA for these payments.")
    return strict_json.text(account, "accountNumber")


def _text(body: dict[str, Any]) -> str:
    if "remittanceInformation" not in body:
        return ""
    lines = strict_json.members(strict_json.member(body, "remittanceInformation"), "unstructuredInformation")
    texts = [strict_json.text(line, "text") for line in lines]
    if len(texts) > 1 or any(len(text) > 140 for text in texts):
        raise Refused("malformed", "One remittance line of 140 characters is taken.")
    return texts[0] if texts else ""


def _one(desk: Desk, payment: str, merchant: str) -> Shown:
    found = payments.by_id(desk, payment, merchant)
    if found is None:
        raise Refused("not_found", "There is no payment of this id.")
    return found


def _status(one: Shown) -> dict[str, Any]:
    word, finer = _STATES[one.state]
    return {
        "paymentId": one.id,
        "paymentStatus": word,
        "paymentSubStatus": finer,
        "statusUpdatedAt": _time(one.at),
        "paymentIdentifiers": {"endToEndId": one.order.reference},
        "paymentType": "BLOCKCHAIN",
        "transferType": "CREDIT",
        "requestedExecutionDate": one.order.on,
    }


def _detail(one: Shown, *, full: bool) -> dict[str, Any]:
    if not full:
        return _status(one)
    order = one.order
    agent = {"financialInstitutionIds": [{"id": jpmorgan.BIC, "idType": "BIC"}]}
    told = {
        **_status(one),
        "value": {"currency": order.currency, "amount": _plain(order.amount)},
        "debtor": _party(order.debtor, order.currency),
        "debtorAgent": agent,
        "creditor": _party(order.creditor, order.currency),
        "creditorAgent": agent,
    }
    return (
        {**told, "remittanceInformation": {"unstructuredInformation": [{"text": order.text}]}} if order.text else told
    )


def _party(number: str, currency: str) -> dict[str, Any]:
    return {"account": {"accountNumber": number, "accountType": "BDA", "accountCurrency": currency}}


def _plain(amount: Decimal) -> str:
    return f"{amount:f}"


def _time(moment: datetime) -> str:
    return strict_json.rfc3339(moment.replace(microsecond=0))


def _now() -> float:
    return clock.real_now().timestamp()


def _refusal(refused: Refused) -> Response:
    """The schema `Error`."""
    request_id = request.headers.get("Request-Id", "")
    told: dict[str, Any] = {
        "title": _TITLES.get(refused.status, "Service Unavailable" if refused.status >= 500 else "Bad Request"),
        "httpStatus": _status_of(refused),
        "traceId": new_id("trace"),
    }
    if 1 <= len(request_id) <= 128:
        told["requestId"] = request_id
    if refused.code in _CODES:
        code = "11001" if refused.status == 403 else _CODES[refused.code]
        told["context"] = [{"code": code, "message": refused.detail[:99] or refused.code, "location": "BODY"}]
    answer = Response(json.dumps(told), _status_of(refused), content_type="application/json")
    if refused.retry_after is not None:
        answer.headers["Retry-After"] = str(max(1, refused.retry_after))
    return answer


def _status_of(refused: Refused) -> int:
    """The document knows 400, 401, 403, 404 and 503, and 429; a failure of this bank stays the 500 it is."""
    documented = {401, 403, 404, 429, 500, 503}
    return refused.status if refused.status in documented and refused.code != "unknown_invoice" else 400
