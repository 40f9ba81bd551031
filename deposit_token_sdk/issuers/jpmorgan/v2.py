"""Version 2 (Global Payments 2.0.22): amounts are decimal strings, a query by reference needs its view."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any
from urllib.parse import quote

from deposit_token_sdk.errors import Unreadable
from deposit_token_sdk.exchange import Response
from deposit_token_sdk.issuers.jpmorgan import payment as payments
from deposit_token_sdk.issuers.jpmorgan.options import Account
from deposit_token_sdk.issuers.jpmorgan.payment import NewPayment, Payment, Refusal
from deposit_token_sdk.signing import strict_json


class Version2:
    """See `payment.Version`."""

    number = 2
    content_type = "application/json"

    def find_path(self, reference: str) -> str:
        """`GET /payments?endToEndId=…&view=FULL`: `view` is required."""
        return f"/payments?endToEndId={quote(reference, safe='')}&view=FULL&paymentType=BLOCKCHAIN"

    def id_path(self, payment: str) -> str:
        """`GET /payments/{paymentId}`."""
        return f"/payments/{quote(payment, safe='')}"

    def status_path(self, payment: str) -> str:
        """`GET /payments/{paymentId}/status`."""
        return f"/payments/{quote(payment, safe='')}/status"

    def body(self, payment: NewPayment) -> bytes:
        """The schema `Payment`: no additional properties."""
        return strict_json.dumps(
            {
                "requestedExecutionDate": payment.on.isoformat(),
                "paymentIdentifiers": {"endToEndId": payment.reference},
                "value": {"currency": payment.currency, "amount": f"{payment.amount:f}"},
                "transferType": "CREDIT",
                "paymentType": "BLOCKCHAIN",
                "debtor": _party(payment.debtor, payment.currency),
                "debtorAgent": _agent(payment.debtor),
                "creditor": _party(payment.creditor, payment.currency),
                "creditorAgent": _agent(payment.creditor),
                "remittanceInformation": {"unstructuredInformation": [{"text": payment.line}]},
            }
        )

    def accepted(self, answer: dict[str, Any]) -> tuple[str, str]:
        """The schema `PaymentInitiationResponse`."""
        return strict_json.text(answer, "endToEndId"), strict_json.text(answer, "paymentId")

    def payments(self, answer: dict[str, Any]) -> tuple[Payment, ...]:
        """The schema `PaymentDetails`, or one `PaymentDetail`."""
        details = strict_json.members(answer, "payments") if "paymentId" not in answer else [answer]
        return tuple(_payment(detail) for detail in details if detail.get("paymentType") == "BLOCKCHAIN")

    def refusal(self, answer: Mapping[str, Any]) -> Refusal:
        """The schema `Error`; the first entry of `context` that has a code names it."""
        context = answer.get("context")
        entries = [entry for entry in context if isinstance(entry, dict)] if isinstance(context, list) else []
        coded = next((entry for entry in entries if isinstance(entry.get("code"), str)), {})
        told = "; ".join(str(entry.get("message", ""))[:99] for entry in entries) or str(answer.get("title", ""))[:100]
        trace = answer.get("traceId")
        return Refusal(str(coded.get("code", "")), told, trace if isinstance(trace, str) else None)

    def knows_none(self, response: Response, answer: Mapping[str, Any]) -> bool:
        """404 in the bank's own words (the schema `Error`): a gateway that finds no bank behind it says 404 too."""
        in_its_words = isinstance(answer.get("title"), str) and answer.get("httpStatus", 404) == 404
        return response.status == 404 and in_its_words


def _party(account: Account, currency: str) -> dict[str, Any]:
    party: dict[str, Any] = {
        "account": {"accountNumber": account.number, "accountType": account.kind, "accountCurrency": currency}
    }
    return {**party, "name": account.holder} if account.holder else party


def _agent(account: Account) -> dict[str, Any]:
    return {"financialInstitutionIds": [{"id": account.bic, "idType": "BIC"}]}


def _payment(detail: dict[str, Any]) -> Payment:
    value = strict_json.member(detail, "value")
    return Payment(
        id=strict_json.text(detail, "paymentId"),
        reference=strict_json.text(strict_json.member(detail, "paymentIdentifiers"), "endToEndId"),
        amount=_amount(value),
        currency=strict_json.text(value, "currency"),
        debtor=_account(detail, "debtor"),
        creditor=_account(detail, "creditor"),
        line=_line(detail),
        word=strict_json.text(detail, "paymentStatus"),
        sub_word=strict_json.optional_text(detail, "paymentSubStatus"),
        at=payments.moment(detail, "statusUpdatedAt"),
        raw=payments.raw(detail),
    )


def _amount(value: dict[str, Any]) -> Decimal:
    if "equivalentAmount" in value:
        raise Unreadable("bad_value", "The payment's amount is in another currency than moved.", field="value")
    amount = strict_json.plain(value, "amount")
    if amount < 0:
        raise Unreadable("bad_value", f"The member 'amount' is {amount}: no payment is below 0.", field="amount")
    return amount


def _account(detail: dict[str, Any], side: str) -> Account | None:
    if detail.get(side) is None:
        return None
    party = strict_json.member(detail, side)
    account = strict_json.member(party, "account")
    number = strict_json.optional_text(account, "accountNumber")
    if number is None:
        return None
    kind, name = strict_json.optional_text(account, "accountType"), strict_json.optional_text(party, "name")
    return Account(number, kind or "", _bic(detail, f"{side}Agent"), name or "")


def _bic(detail: dict[str, Any], agent: str) -> str:
    if detail.get(agent) is None:
        return ""
    named = strict_json.member(detail, agent)
    if named.get("financialInstitutionIds") is None:
        return ""
    ids = strict_json.members(named, "financialInstitutionIds")
    return next((strict_json.text(one, "id") for one in ids if one.get("idType") == "BIC"), "")


def _line(detail: dict[str, Any]) -> str:
    if detail.get("remittanceInformation") is None:
        return ""
    told = strict_json.member(detail, "remittanceInformation")
    if told.get("unstructuredInformation") is None:
        return ""
    lines = strict_json.members(told, "unstructuredInformation")
    return strict_json.optional_text(lines[0], "text") or "" if lines else ""
