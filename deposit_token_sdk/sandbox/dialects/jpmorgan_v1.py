"""J.P. Morgan's Global Payments API, version 1 (1.1.11), as a dialect: `/tsapi/v1`.

A payment is initiated by a compact JWS under the merchant's RSA key; there is no idempotency key. Queries are proved by
mutual TLS at the real bank: over plain HTTP they are anybody's on this machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from flask import Blueprint, Response, request

from deposit_token_sdk.errors import NotGenuine, Unreadable
from deposit_token_sdk.sandbox import payments
from deposit_token_sdk.sandbox.bank import Bank
from deposit_token_sdk.sandbox.desk import Desk
from deposit_token_sdk.sandbox.dialects import jpmorgan
from deposit_token_sdk.sandbox.dialects.serving import Serving, kept
from deposit_token_sdk.sandbox.memory import Kept
from deposit_token_sdk.sandbox.payments import Order, Shown
from deposit_token_sdk.sandbox.problems import Refused
from deposit_token_sdk.signing import rs256, strict_json
from deposit_token_sdk.signing.base64url import decode_url

_STATES: Final = {
    "processing": "PENDING_POSTING",
    "completed": "COMPLETED",
    "returned": "RETURNED",
    "rejected": "REJECTED",
}
_CODES: Final = {
    "malformed": "10008",
    "not_found": "GCA-095",
    "signature_invalid": "GCA-001",
    "insufficient_balance": "11000",
    "refund_exceeds": "11000",
    "internal": "GCA-099",
}


def blueprint(bank: Bank) -> Blueprint:
    """The dialect's routes for one bank."""
    serving = Serving(bank, _refusal)
    routes = Blueprint("jpmorgan-v1", __name__)

    @routes.post("/tsapi/v1/payments")
    def initiate() -> Response:
        try:
            with bank.desk() as desk:
                merchant, order = _signed(desk, request.get_data())
        except Refused as refused:
            return _refusal(refused)
        except NotGenuine as error:
            return _refusal(Refused("signature_invalid", str(error)))
        except (Unreadable, ValueError) as error:
            return _refusal(Refused("malformed", str(error)))

        def work(desk: Desk) -> Kept:
            number = payments.initiate(desk, merchant, order)
            return kept(202, {"paymentInitiationResponse": {"endToEndId": order.reference, "firmRootId": number}})

        return serving.serve("POST /payments", (order.reference,), work)

    @routes.get("/tsapi/v1/payments")
    def find() -> Response:
        return serving.serve("GET /payments", _asked(), lambda desk: kept(200, _detail(_found(desk))))

    @routes.get("/tsapi/v1/payments/status")
    def status() -> Response:
        return serving.serve(
            "GET /payments/status", _asked(), lambda desk: kept(200, {"paymentStatus": _status(_found(desk))})
        )

    return routes


def environment(desk: Desk, bank: Bank, folder: Path, settings: Mapping[str, str]) -> dict[str, str]:
    """The settings of a shop that speaks this dialect."""
    return jpmorgan.environment(1, desk, bank, folder, settings)


def message(desk: Desk, merchant: str, body: bytes) -> tuple[dict[str, str], bytes] | None:
    """A webhook of this bank as a list of callbacks; None if it is about no payment."""
    data = strict_json.member(strict_json.parse(body), "data")
    reference = data["refund"]["reference"] if "refund" in data else data.get("reference", "")
    found = payments.find(desk, reference, merchant)
    if not found:
        return None
    last = found[-1]
    told = {
        "endToEndId": last.order.reference,
        "firmRootId": last.id,
        "createDateTime": _time(last.at),
        "paymentStatus": _STATES[last.state],
    }
    headers = {"content-type": "application/json", "user-agent": "deposit-token-sandbox"}
    return headers, strict_json.dumps({"callbacks": [told]})


def _signed(desk: Desk, body: bytes) -> tuple[str, Order]:
    """Whose order it is, by the accounts that it names and by that merchant's key, and what it says."""
    token = body.decode("ascii")
    order = _order(strict_json.parse(decode_url(token.split(".")[1] if token.count(".") == 2 else "")))
    merchant = payments.merchant_of(desk, order.debtor, order.creditor)
    keys = [] if merchant is None else jpmorgan.keys(desk, merchant)
    if merchant is None or not keys:
        raise Refused("signature_invalid", "No merchant with an RSA key has one of these accounts.")
    for key in keys[:-1]:
        try:
            rs256.verify_compact(token, key)
        except NotGenuine:
            continue
        return merchant, order
    rs256.verify_compact(token, keys[-1])
    return merchant, order


def _order(body: dict[str, Any]) -> Order:
    told = strict_json.member(body, "payments")
    for name, due in (("transferType", "CREDIT"), ("paymentType", "BLOCKCHAIN")):
        if strict_json.text(told, name) != due:
            raise Refused("malformed", f"{name} {due} is served here.")
    for side in ("debtor", "creditor"):
        agent = strict_json.member(strict_json.member(told, f"{side}Agent"), "financialInstitutionId")
        strict_json.text(agent, "bic")
    strict_json.text(strict_json.member(told, "creditor"), "creditorName")
    return Order(
        reference=strict_json.text(strict_json.member(told, "paymentIdentifiers"), "endToEndId"),
        currency=strict_json.text(told, "paymentCurrency"),
        amount=_amount(told),
        debtor=_number(told, "debtor"),
        creditor=_number(told, "creditor"),
        text=_text(told),
        on=strict_json.text(told, "requestedExecutionDate"),
    )


def _amount(told: dict[str, Any]) -> Decimal:
    amount = told.get("paymentAmount")
    if type(amount) is not int and not isinstance(amount, Decimal):
        raise Refused("malformed", "paymentAmount is a number.")
    return Decimal(amount)


def _number(told: dict[str, Any], side: str) -> str:
    account = strict_json.member(strict_json.member(told, side), f"{side}Account")
    if strict_json.text(account, "accountType") not in ("BDA", "DDA"):
        raise Refused("malformed", "accountType is BDA or DDA for these payments.")
    return strict_json.text(account, "accountId")


def _text(told: dict[str, Any]) -> str:
    if "remittanceInformation" not in told:
        return ""
    lines = strict_json.texts(strict_json.member(told, "remittanceInformation"), "unstructuredInformation")
    if len(lines) > 1 or any(len(line) > 140 for line in lines):
        raise Refused("malformed", "One remittance line of 140 characters is taken.")
    return lines[0] if lines else ""


def _asked() -> tuple[str, ...]:
    named = (request.args.get("endToEndId"), request.args.get("firmRootId"))
    return tuple(name for name in named if name)


def _found(desk: Desk) -> Shown:
    """The payment asked about. The document gives an answer one payment: of several the last that is not over."""
    reference, number = request.args.get("endToEndId"), request.args.get("firmRootId")
    if number:
        one = payments.by_id(desk, number)
        found = [] if one is None else [one]
    else:
        found = payments.find(desk, reference) if reference else []
    if not found:
        raise Refused("not_found", "endToEndId or firmRootId is required")
    return found[-1]


def _status(one: Shown) -> dict[str, Any]:
    return {"createDateTime": _time(one.at), "status": _STATES[one.state]}


def _detail(one: Shown) -> dict[str, Any]:
    order = one.order
    agent = {"financialInstitutionId": {"bic": jpmorgan.BIC}}
    told: dict[str, Any] = {
        "requestedExecutionDate": order.on,
        "paymentIdentifiers": {"endToEndId": order.reference},
        "paymentCurrency": order.currency,
        "paymentAmount": order.amount,
        "transferType": "CREDIT",
        "paymentType": "BLOCKCHAIN",
        "debtor": {"debtorAccount": {"accountId": order.debtor, "accountType": "BDA"}},
        "debtorAgent": agent,
        "creditorAgent": agent,
        "creditor": {
            "creditorName": order.creditor,
            "creditorAccount": {"accountId": order.creditor, "accountType": "BDA"},
        },
    }
    if order.text:
        told["remittanceInformation"] = {"unstructuredInformation": [order.text]}
    return {"payments": told, "paymentStatus": _status(one), "firmRootId": one.id}


def _time(moment: datetime) -> str:
    """UTC to the millisecond and without an offset, as in the document's examples."""
    return strict_json.rfc3339(moment.replace(microsecond=moment.microsecond // 1000 * 1000)).removesuffix("Z")[:23]


def _refusal(refused: Refused) -> Response:
    """`errors.errorDetails[]` of an initiation, `errors[].errorDetails[]` of a query."""
    code = "GCA-150" if refused.status == 403 else _CODES.get(refused.code, "13000")
    details = {"errorDetails": [{"errorCode": code, "errorDescription": refused.detail[:1024]}]}
    status = {401: 403, 403: 403, 429: 429, 500: 500, 503: 503}.get(refused.status, 400)
    told = {"errors": details if request.method == "POST" else [details]}
    answer = Response(strict_json.dumps(told), status, content_type="application/json")
    if refused.retry_after is not None:
        answer.headers["Retry-After"] = str(max(1, refused.retry_after))
    return answer
