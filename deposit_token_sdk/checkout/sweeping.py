"""A sweep: every attempt that is due is asked about, and what fails for one is no trouble of the others.

Which attempts are due, and who of many sweepers takes which, is the store's; asking is `bank`'s, and what the bank says
enters by the one door.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime
from typing import TypeAlias

from attrs import frozen

from deposit_token_sdk.checkout.door import UNFINISHED, Applied, Outcome
from deposit_token_sdk.checkout.store import Store
from deposit_token_sdk.errors import DepositTokenError

_LOG = logging.getLogger("deposit_token_sdk")

Ask: TypeAlias = Callable[[str], Applied | None]
"""Asks the bank about the attempt of this reference and applies what it says; None if there is nothing to apply."""


@frozen
class Reconciled:
    """A sweep's result: how many attempts were asked about, how many had news, and what failed, with its reason.

    Failed is what raised, and news that could not be applied: a hook that raised, or what is not for this shop.
    """

    asked: int
    applied: int
    failed: tuple[tuple[str, str], ...]


def sweep(store: Store, ask: Ask, before: datetime, now: datetime, limit: int) -> Reconciled:
    """Ask about at most `limit` attempts that are due at `before` or earlier."""
    references = store.take_due(before, now, limit)
    outcomes = [(reference, *_outcome(ask, reference)) for reference in references]
    failed = tuple((reference, reason) for reference, outcome, reason in outcomes if _is_failure(outcome))
    applied = sum(outcome is Outcome.APPLIED for _, outcome, _ in outcomes)
    return Reconciled(len(references), applied, failed)


def failure(ask: Ask, reference: str) -> str:
    """Ask about one attempt: the reason where that came to nothing, else an empty text."""
    outcome, reason = _outcome(ask, reference)
    return reason if _is_failure(outcome) else ""


def _is_failure(outcome: Outcome | None) -> bool:
    return outcome is None or outcome in UNFINISHED


def _outcome(ask: Ask, reference: str) -> tuple[Outcome | None, str]:
    """What became of asking: None and the reason where it raised."""
    try:
        applied = ask(reference)
    except DepositTokenError as error:
        return None, error.reason
    except Exception as error:  # noqa: BLE001  # of the database, say: no trouble of the other attempts
        _LOG.exception("Reconciling %s failed.", reference)
        return None, type(error).__name__
    return (Outcome.NOTHING_TO_APPLY, "") if applied is None else (applied.outcome, applied.reason)
