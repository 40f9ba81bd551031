"""What the bank's words mean to us: statuses, sub-statuses and error codes of both versions, with nothing left out.

Sources: Global Payments 2.0.22 (`PaymentStatusBasic`, error codes) and 1.1.11 (`CoreStatus`, error codes). The bank's
own word is always kept beside ours. A word that is not in these tables is read as unknown, which is never final.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from deposit_token_sdk.lifecycle import RefundStage, Stage

STAGES: Final[Mapping[str, Stage]] = {
    # version 2, paymentStatus
    "RECEIVED": Stage.SEEN,
    "ACCEPTED": Stage.SEEN,
    "PROCESSING": Stage.SEEN,
    "CANCELED": Stage.RELEASED,
    "REJECTED": Stage.RELEASED,
    "COMPLETED": Stage.SETTLED,
    "RETURNED": Stage.RETURNED,
    # version 1, status; REJECTED, COMPLETED and RETURNED are the same words
    "PENDING": Stage.SEEN,
    "PENDING_POSTING": Stage.SEEN,
    "COMPLETED_CREDITED": Stage.SETTLED,
    "BLOCKED": Stage.SEEN,
}
"""A payment's status as the stage of a movement. BLOCKED (sanctions) is on its way until the bank decides."""

SUB_STATUSES: Final[Mapping[str, Stage]] = {
    "RECEIVED": Stage.SEEN,
    "ACCEPTED": Stage.SEEN,
    "PROCESSING_BY_JPM": Stage.SEEN,
    "PENDING_CLIENT_ACTION": Stage.SEEN,
    "PENDING_COMPLIANCE_REVIEW": Stage.SEEN,
    "PENDING_FRAUD_REVIEW": Stage.SEEN,
    "PENDING_FUNDING_REVIEW": Stage.SEEN,
    "PENDING_JPM_REVIEW": Stage.SEEN,
    "SCHEDULED": Stage.SEEN,
    "PENDING_POSTING": Stage.SEEN,
    "CANCELED": Stage.RELEASED,
    "REJECTED": Stage.RELEASED,
    "REJECTED_BY_JPM": Stage.RELEASED,
    "COMPLETED_BY_JPM": Stage.SETTLED,
    "SENT_TO_CLEARING": Stage.SEEN,
    "DELIVERED_TO_RECIPIENT": Stage.SETTLED,
    "RETURNED": Stage.RETURNED,
}
"""Version 2, paymentSubStatus. It says more, and never speeds anything up: see `stage_of`."""

REFUND_STAGES: Final[Mapping[Stage, RefundStage]] = {
    Stage.UNKNOWN: RefundStage.UNKNOWN,
    Stage.SEEN: RefundStage.PENDING,
    Stage.HELD: RefundStage.PENDING,
    Stage.SETTLED: RefundStage.DONE,
    Stage.RELEASED: RefundStage.FAILED,
    Stage.RETURNED: RefundStage.FAILED,
}
"""A refund is a payment: one that was returned is the merchant's again."""

_V1_CODES: Final[Mapping[str, str]] = {
    "GCA-001": "not_entitled",
    "GCA-003": "not_entitled",
    "GCA-023": "malformed",
    "GCA-030": "bank_failed",
    "GCA-095": "malformed",
    "GCA-099": "bank_offline",
    "GCA-145": "account_refused",
    "GCA-148": "malformed",
    "GCA-149": "malformed",
    "GCA-150": "account_refused",
    "GCA-154": "malformed",
    "10001": "field_missing",
    "10002": "field_length",
    "10003": "field_length",
    "10004": "field_value",
    "10005": "amount_too_large",
    "10006": "amount_too_small",
    "10007": "field_value",
    "10008": "field_value",
    "10009": "field_value",
    "10010": "field_value",
    "11000": "business_rule",
    "12000": "bank_failed",
    "13000": "uncategorised",
}
_V2_RANGES: Final = (
    (10001, 10001, "field_missing"),
    (10002, 10003, "field_length"),
    (10106, 10106, "idempotency_key_reused"),
    (10107, 10107, "idempotency_key_in_use"),
    (10100, 10199, "field_value"),
    (11000, 11499, "account_refused"),
    (11500, 11999, "business_rule"),
    (12000, 12499, "bank_timed_out"),
    (12500, 12999, "bank_offline"),
    (13000, 13999, "uncategorised"),
    (14000, 14999, "security"),
    (15000, 15999, "bank_failed"),
)

UNCERTAIN: Final = frozenset(
    {"idempotency_key_reused", "idempotency_key_in_use", "bank_timed_out", "bank_offline", "bank_failed"}
)
"""Reasons that do not say that nothing was done: whoever sent a payment must ask what became of it.

A key that is refused as used was made for this payment alone, so an earlier sending of it has arrived.
"""


def stage_of(status: str, sub_status: str | None) -> Stage:
    """How far a payment has come. A sub-status that contradicts the status, or is unknown, leaves it merely seen."""
    stage = STAGES.get(status, Stage.UNKNOWN)
    if sub_status is None or stage in (Stage.UNKNOWN, Stage.SEEN) or SUB_STATUSES.get(sub_status) is stage:
        return stage
    return Stage.SEEN


def is_behind(shown: Collection[str], told: str) -> bool:
    """Whether payments whose statuses are `shown` have not come as far as `told` yet: on their way, or not returned."""
    furthest, said = max((STAGES.get(one, Stage.UNKNOWN) for one in shown), default=None), STAGES.get(told)
    if said is None or furthest not in (Stage.SEEN, Stage.SETTLED):
        return False
    return said > furthest and (furthest is Stage.SEEN or said is Stage.RETURNED)


def reason_of(version: int, code: str) -> str:
    """Our word for an error code of the bank; ``bank_refused`` where it is in no table."""
    if version == 1:
        return _V1_CODES.get(code, "bank_refused")
    if not (code.isascii() and code.isdigit()):
        return "bank_refused"
    return next((reason for first, last, reason in _V2_RANGES if first <= int(code) <= last), "bank_refused")
