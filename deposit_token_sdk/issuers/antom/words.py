"""Antom's statuses and result codes, and ours. What is not in a table is kept as it stands, and is never final.

A result with status S is the call's success, F its refusal, U unknown: asked again, never taken for a failure. How a
payment stands is told by `paymentStatus` alone.
"""

from __future__ import annotations

from typing import Final

from deposit_token_sdk.lifecycle import RefundStage, Stage, Word

STAGES: Final = {
    "SUCCESS": Stage.SETTLED,
    "PROCESSING": Stage.SEEN,
    "PENDING": Stage.SEEN,
    "FAIL": Stage.RELEASED,
    "CANCELLED": Stage.RELEASED,
}
"""By `paymentStatus`: how far the payment's money has come. PENDING is one that the buyer has made and whose result is
still to come (Antom, "inquiryPayment"); without a `paymentId` it is a session that nobody has paid on."""

CLOSED: Final = "ORDER_IS_CLOSED"
"""`paymentResultCode` of a payment that failed because its time ran out."""

REFUND_STAGES: Final = {
    "SUCCESS": RefundStage.DONE,
    "PROCESSING": RefundStage.PENDING,
    "PENDING": RefundStage.PENDING,
    "FAIL": RefundStage.FAILED,
    "CANCELLED": RefundStage.CANCELLED,
}
"""By `refundStatus`, or by `transactionStatus` of a REFUND."""

REASONS: Final = {
    "PARAM_ILLEGAL": "malformed",
    "INVALID_SIGNATURE": "signature_invalid",
    "KEY_NOT_FOUND": "signature_invalid",
    "ACCESS_DENIED": "access_denied",
    "PROCESS_FAIL": "refused",
    "REPEAT_REQ_INCONSISTENT": "idempotency_key_reused",
    "ORDER_NOT_EXIST": "unknown_invoice",
    "ORDER_IS_CLOSED": "invoice_not_open",
    "CURRENCY_NOT_SUPPORT": "unsupported_currency",
    "PAYMENT_AMOUNT_EXCEED_LIMIT": "amount_exceeds",
    "USER_BALANCE_NOT_ENOUGH": "insufficient_balance",
    "RISK_REJECT": "risk_refused",
    "CANCEL_WINDOW_EXCEED": "invoice_not_open",
    "REFUND_AMOUNT_EXCEED": "refund_exceeds",
    "REFUND_WINDOW_EXCEED": "refund_too_late",
    "PARTIAL_REFUND_NOT_SUPPORTED": "partial_refund_refused",
    "MERCHANT_BALANCE_NOT_ENOUGH": "merchant_balance",
}
"""By `resultCode` of a refusal (F): the `reason` of BankRefused, whose `code` stays Antom's."""

REFUND_IN_PROCESS: Final = "REFUND_IN_PROCESS"
"""`resultCode` of a refund (U) that Antom has taken and works on."""


def reason_of(code: str) -> str:
    """Our word for a refusal's code; the code itself, in lower case, where we know none."""
    return REASONS.get(code, code.lower())


def is_unknown_order(code: str) -> bool:
    """Whether the code says that Antom knows no such payment or refund."""
    return code.endswith("_NOT_EXIST")


def word_of(status: str, result_code: str, *, short: bool = False) -> Word | None:
    """What `paymentStatus` says about the invoice's end: a failed payment ends it, as its time running out does.

    So does success, which is final: where the buyer paid too little (`short`), no more can be paid on that session.
    """
    if (status == "FAIL" and result_code == CLOSED) or (status == "SUCCESS" and short):
        return Word.EXPIRED
    return Word.CANCELLED if status in ("FAIL", "CANCELLED") else None
