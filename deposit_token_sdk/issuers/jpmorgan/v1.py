"""Version 1 (Global Payments 1.1.11): the amount is a JSON number, written and read digit for digit, never a float."""

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


class Version1:
    """See `payment.Version`. `content_type` is what the bank is told of a body that is a JWS."""

    number = 1

    def __init__(self, content_type: str) -> None:
        self.content_type = content_type

    def find_path(self, reference: str) -> str:
        """`GET /payments?endToEndId=…`."""
        return f"/payments?endToEndId={quote(reference, safe='')}"

    def id_path(self, payment: str) -> str:
        """`GET /payments?firmRootId=…`."""
        return f"/payments?firmRootId={quote(payment, safe='')}"

    def status_path(self, payment: str) -> str:
        """`GET /payments/status?firmRootId=…`."""
        return f"/payments/status?firmRootId={quote(payment, safe='')}"

    def body(self, payment: NewPayment) -> bytes:
        """The schema `PaymentInitationDetails` (the document's own spelling)."""
        written = {
            "requestedExecutionDate": payment.on.isoformat(),
            "paymentIdentifiers": {"endToEndId": payment.reference},
            "paymentCurrency": payment.currency,
            "paymentAmount": payment.amount,
            "transferType": "CREDIT",
            "paymentType": "BLOCKCHAIN",
            "debtor": {"debtorAccount": _account_of(payment.debtor), **_named("debtorName", payment.debtor)},
            "debtorAgent": _agent(payment.debtor),
            "creditorAgent": _agent(payment.creditor),
            "creditor": {
                "creditorName": payment.creditor.holder or payment.creditor.number,
                "creditorAccount": _account_of(payment.creditor),
            },
            "remittanceInformation": {"unstructuredInformation": [payment.line]},
        }
        return strict_json.dumps_exact({"payments": written})

    def accepted(self, answer: dict[str, Any]) -> tuple[str, str]:
        """The schema `PaymentInitiationResponse`."""
        told = strict_json.member(answer, "paymentInitiationResponse")
        return strict_json.text(told, "endToEndId"), strict_json.text(told, "firmRootId")

    def payments(self, answer: dict[str, Any]) -> tuple[Payment, ...]:
        """The schema `PaymentDetailsResponse`: one payment, or an answer that names none."""
        if not answer.get("payments"):
            if named := next((one for one in ("errors", "firmRootId", "paymentStatus") if answer.get(one)), None):
                raise Unreadable("missing_field", f"The answer has {named!r}, but no payment.", field="payments")
            return ()
        told = strict_json.member(answer, "payments")
        if told.get("paymentType") != "BLOCKCHAIN":
            return ()
        status = strict_json.member(answer, "paymentStatus")
        payment = Payment(
            id=strict_json.text(answer, "firmRootId"),
            reference=strict_json.text(strict_json.member(told, "paymentIdentifiers"), "endToEndId"),
            amount=number(told, "paymentAmount"),
            currency=strict_json.text(told, "paymentCurrency"),
            debtor=_account(told, "debtor"),
            creditor=_account(told, "creditor"),
            line=_line(told),
            word=strict_json.text(status, "status"),
            sub_word=None,
            at=payments.moment(status, "createDateTime"),
            raw=payments.raw(answer),
        )
        return (payment,)

    def refusal(self, answer: Mapping[str, Any]) -> Refusal:
        """`errors.errorDetails[]` of an initiation, `errors[].errorDetails[]` of a query."""
        errors = answer.get("errors")
        listed = errors if isinstance(errors, list) else [errors]
        details = [
            detail
            for entry in listed
            if isinstance(entry, dict) and isinstance(entry.get("errorDetails"), list)
            for detail in entry["errorDetails"]
            if isinstance(detail, dict)
        ]
        told = "; ".join(str(detail.get("errorDescription", ""))[:200] for detail in details)
        return Refusal(str(details[0].get("errorCode", "")) if details else "", told, None)

    def knows_none(self, response: Response, answer: Mapping[str, Any]) -> bool:
        """GCA-095: the document's own example answers so to an id that is none; 404 with a code is read alike."""
        code = self.refusal(answer).code
        return bool(code) if response.status == 404 else response.status == 400 and code == "GCA-095"


def number(obj: dict[str, Any], name: str) -> Decimal:
    """A JSON number as it stands, from 0. Raises Unreadable (``missing_field``, ``wrong_type``, ``bad_value``)."""
    value = obj.get(name)
    if type(value) is not int and not isinstance(value, Decimal):
        reason = "wrong_type" if name in obj else "missing_field"
        raise Unreadable(reason, f"The member {name!r} must be a number.", field=name)
    exact = Decimal(value)
    if not 0 <= exact < Decimal("1e30") or int(exact.as_tuple().exponent) < -30:
        raise Unreadable("bad_value", f"The member {name!r} is {str(value)[:40]}: no amount.", field=name)
    return exact


def _account_of(account: Account) -> dict[str, Any]:
    return {"accountId": account.number, "accountType": account.kind}


def _named(member: str, account: Account) -> dict[str, str]:
    return {member: account.holder} if account.holder else {}


def _agent(account: Account) -> dict[str, Any]:
    return {"financialInstitutionId": {"bic": account.bic}}


def _account(told: dict[str, Any], side: str) -> Account | None:
    if told.get(side) is None:
        return None
    party = strict_json.member(told, side)
    account = strict_json.member(party, f"{side}Account")
    number_of = strict_json.optional_text(account, "accountId")
    if number_of is None:
        return None
    kind = strict_json.optional_text(account, "accountType") or ""
    name = strict_json.optional_text(party, f"{side}Name") or ""
    return Account(number_of, kind, _bic(told, f"{side}Agent"), name)


def _bic(told: dict[str, Any], agent: str) -> str:
    if told.get(agent) is None:
        return ""
    institution = strict_json.member(strict_json.member(told, agent), "financialInstitutionId")
    return strict_json.optional_text(institution, "bic") or ""


def _line(told: dict[str, Any]) -> str:
    if told.get("remittanceInformation") is None:
        return ""
    remittance = strict_json.member(told, "remittanceInformation")
    if remittance.get("unstructuredInformation") is None:
        return ""
    lines = strict_json.texts(remittance, "unstructuredInformation")
    return lines[0] if lines else ""
