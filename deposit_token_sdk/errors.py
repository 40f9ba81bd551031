"""Every failure this SDK raises, as one small tree ordered by what the caller can do about it.

Each error carries a `reason`: a short, stable, tested word to branch on and to count by. The message says what
was wrong, what was expected and what to do next. No error carries a secret.
"""

from __future__ import annotations

from typing import Any


class DepositTokenError(Exception):
    """The root of the tree: catch it to catch all of ours.

    `reason` is a stable lower-case word such as ``signature_mismatch``; the message is for people.
    """

    reason: str

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason

    def __reduce__(self) -> tuple[Any, ...]:
        """As BaseException does it, but without `__init__`, so that it crosses to a worker's parent process whole."""
        return _restored, (type(self), self.args), self.__dict__


def _restored(kind: type[DepositTokenError], args: tuple[Any, ...]) -> DepositTokenError:
    error = kind.__new__(kind, *args)
    error.args = args
    return error


class ConfigurationError(DepositTokenError):
    """A setting is missing, contradictory or unusable. Mend the configuration; nothing was sent."""


class InvalidInput(DepositTokenError, ValueError):
    """A value handed to us cannot be right (an amount, a currency, a reference). Mend the call; nothing was sent."""


class InvalidType(DepositTokenError, TypeError):
    """A value is of a type that money must not have: a float. Mend the call; nothing was sent."""


class Unsupported(DepositTokenError):
    """This issuer lacks the capability that was asked for. Nothing was sent.

    `issuer` is its name, `capability` the missing one.
    """

    def __init__(self, issuer: str, capability: str, message: str) -> None:
        super().__init__("unsupported", message)
        self.issuer = issuer
        self.capability = capability


class NotAllowed(DepositTokenError):
    """The state of the order, invoice or refund forbids this step; what was there before stands."""


class OrderChanged(NotAllowed):
    """The order changed while money for its former content is on its way; a person must look first."""


class DatabaseBusy(DepositTokenError):
    """Another writer held the shop's database for too long, or the two waited for each other (``database_busy``).

    This transaction was rolled back whole: do the same again, or let the next delivery or `reconcile` do it.
    """


class PriceRefused(DepositTokenError):
    """The bank's quote does not add up, or its fee is above the shop's ceiling. Nothing was reserved."""


class BankRefused(DepositTokenError):
    """The bank answered, genuinely, that it will not do this (4xx). It did nothing; do not repeat unchanged.

    `status` is the HTTP status, `code` the bank's own code, `request_id` the bank's id of the request: quote it to the
    bank's support. `reason` is our word for the code where a bank has its own, else the code itself.
    """

    def __init__(self, code: str, message: str, *, status: int, request_id: str | None, reason: str = "") -> None:
        super().__init__(reason or code, message)
        self.code = code
        self.status = status
        self.request_id = request_id


class BankUnavailable(DepositTokenError):
    """The bank could not be asked, and certainly did nothing. Try again later.

    `request_id` is the bank's id of the last request, where it gave one.
    """

    def __init__(self, reason: str, message: str, *, request_id: str | None = None) -> None:
        super().__init__(reason, message)
        self.request_id = request_id


class OutcomeUnknown(DepositTokenError):
    """The bank may or may not have done it. Never tell the buyer "failed": ask the bank by `reference`.

    `key` is the idempotency key that was used, `request_id` the bank's id of the last request where known,
    `reference` what to ask by. `Checkout.reconcile` does the asking.
    """

    def __init__(self, message: str, *, key: str | None, request_id: str | None, reference: str | None) -> None:
        super().__init__("outcome_unknown", message)
        self.key = key
        self.request_id = request_id
        self.reference = reference


class NotGenuine(DepositTokenError):
    """A message, answer or statement is not what its signer signed, or not signed by whom it must be.

    Believe nothing in it. `hint` says why it may have failed where that can be known (a re-serialised body, the
    other mode's key, a clock that is off), else it is None.
    """

    def __init__(self, reason: str, message: str, *, hint: str | None = None) -> None:
        super().__init__(reason, message if hint is None else f"{message} {hint}")
        self.hint = hint


class NotOurs(DepositTokenError):
    """Genuine, but about another merchant, installation, mode, invoice, token or quote. Nothing was applied."""


class Unreadable(DepositTokenError):
    """Genuine or not, it cannot be read: malformed JSON, a field missing or of the wrong type. Nothing was applied.

    `field` names the member at fault where there is one.
    """

    def __init__(self, reason: str, message: str, *, field: str | None = None) -> None:
        super().__init__(reason, message)
        self.field = field
