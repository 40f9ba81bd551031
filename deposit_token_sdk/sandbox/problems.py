"""How the bank says no: RFC 9457 problems with the closed list of codes that the reference API names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

CODES: Final[Mapping[str, tuple[int, str]]] = {
    "quote_expired": (422, "The quote has expired"),
    "quote_used": (409, "The quote belongs to another invoice already"),
    "unknown_quote": (422, "No such quote"),
    "digest_mismatch": (422, "The digest is not that of the quote"),
    "unknown_invoice": (404, "No such invoice"),
    "unknown_refund": (404, "No such refund"),
    "unknown_token": (422, "No such token"),
    "unsupported_currency": (422, "This bank does not price that currency"),
    "nets_nothing": (422, "After the fee nothing would be left for the merchant"),
    "invoice_not_open": (409, "The invoice is not open"),
    "nothing_to_capture": (409, "No held payment to capture"),
    "nothing_to_release": (409, "No held payment to release"),
    "refund_exceeds": (422, "More than what can be refunded"),
    "no_webhook_address": (409, "The merchant has no webhook address here"),
    "idempotency_key_missing": (400, "Idempotency-Key is missing"),
    "idempotency_key_in_use": (409, "A request with this Idempotency-Key is being worked on"),
    "idempotency_key_reused": (422, "This Idempotency-Key came with another request before"),
    "signature_invalid": (401, "The request is not signed as it must be"),
    "malformed": (400, "The request cannot be read"),
    "wrong_mode": (422, "This bank runs in another mode"),
    "reference_taken": (409, "The reference is in use already"),
    "rate_limited": (429, "Too many requests"),
    "not_found": (404, "Nothing is served here"),
    "method_not_allowed": (405, "This method is not served here"),
    "too_large": (413, "The request is too large"),
    "insufficient_balance": (409, "The account does not hold that much"),
    "internal": (500, "The bank failed"),
}
"""Code to HTTP status and title. The last five are the sandbox's own, beyond the reference list."""


class Refused(Exception):
    """The bank will not do it, and did nothing. Becomes a problem document; `retry_after` is in seconds."""

    def __init__(self, code: str, detail: str, *, status: int | None = None, retry_after: int | None = None) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.status = CODES[code][0] if status is None else status
        self.retry_after = retry_after


def problem(code: str, detail: str, status: int, request_id: str) -> dict[str, object]:
    """The members of a problem document (RFC 9457, 3.1), and the request's id for support."""
    return {
        "type": f"/problems/{code}",
        "title": CODES[code][1],
        "status": status,
        "detail": detail,
        "request_id": request_id,
    }
