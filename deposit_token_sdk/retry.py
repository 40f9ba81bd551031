"""When a request may be sent again and how long to wait before: a combinator inside an exchange.

It reads no clock, sleeps never and sends nothing; it yields what to do next. The rule it keeps: what may have been
done is sent again only where the bank promises that the key makes it one act; else the caller learns that the
outcome is unknown. Every try is made anew, so that it is signed anew; the idempotency key stays the same.
"""

from __future__ import annotations

import json
import math
import random
import re
from collections.abc import Callable
from typing import Final

from attrs import frozen

from deposit_token_sdk.errors import BankUnavailable, ConfigurationError, DepositTokenError, OutcomeUnknown
from deposit_token_sdk.exchange import Exchange, NoAnswer, Request, Response, Sent, pause, request_id, send

BEFORE_THE_KEY: Final = frozenset({401, 403, 407, 408, 421, 425, 429, 431})
"""Refusals given before a bank looks at the idempotency key: they say nothing about an earlier try."""

_SAFE_METHODS = frozenset({"GET", "HEAD"})
_DIGITS = re.compile(r"[0-9]{1,9}", re.ASCII)


@frozen
class Retry:
    """How often and how long. All times are in seconds.

    A wait is drawn from 0 to `base` doubled with each try, at most `cap` (full jitter). A bank's ``Retry-After`` is
    honoured up to `patience`. `deadline` holds over all tries and waits, `per_try` over one try.
    Raises ConfigurationError (``retry_unusable``).
    """

    attempts: int = 5
    base: float = 0.25
    cap: float = 4.0
    patience: float = 10.0
    deadline: float = 30.0
    per_try: float = 10.0

    def __attrs_post_init__(self) -> None:
        if self.attempts < 1 or min(self.deadline, self.per_try) <= 0 or min(self.base, self.cap, self.patience) < 0:
            raise ConfigurationError(
                "retry_unusable",
                f"{self} cannot be: at least one attempt is due, a deadline and a time per try above 0 seconds, and "
                f"waits of 0 or more.",
            )

    def wait(self, tries: int, randomness: float) -> float:
        """Seconds to wait after so many tries; `randomness` is from 0 to 1."""
        return randomness * min(self.cap, self.base * 2.0 ** (tries - 1))


def persist(
    make_request: Callable[[float], Request],
    policy: Retry,
    *,
    idempotent: bool,
    key: str | None = None,
    reference: str | None = None,
    elapsed: float = 0.0,
    alive: float = math.inf,
    randomness: Callable[[], float] = random.random,
) -> Exchange[Response]:
    """Send until there is an answer for the caller to read: any status below 500 but 429 and a key in use.

    `make_request` is given the seconds the try may take. `idempotent` says that sending twice does it once: a GET,
    or a POST under a living key at a bank that declares IDEMPOTENCY. `elapsed` is how long the exchange has run, and
    `alive` until which second of it the key lives: what may have been done is not sent again after that.
    Raises OutcomeUnknown if the bank may have done it, BankUnavailable (``unreachable``, ``no_answer``,
    ``server_error``, ``rate_limited``) if it cannot have.
    """
    call = _Call(idempotent, key, reference)
    while True:
        request = make_request(max(0.0, min(policy.per_try, policy.deadline - elapsed)))
        answer = yield from send(request)
        elapsed = answer.elapsed
        call.note(answer)
        if isinstance(answer, Response) and not call.unfinished:
            return answer
        wait = _wait(answer, policy, call.tries, randomness())
        until = min(policy.deadline, alive) if call.doubt else policy.deadline
        if not call.may_repeat or call.tries >= policy.attempts or elapsed + wait >= until:
            raise call.failure()
        resumed = yield from pause(wait)
        elapsed = resumed.elapsed
        if elapsed >= until:
            raise call.failure()


def retry_after(response: Response) -> float | None:
    """Seconds the bank asks us to wait: ``Retry-After`` as seconds or as a date (RFC 9110, section 10.2.3)."""
    asked = response.headers.get("retry-after", "").strip()
    if _DIGITS.fullmatch(asked):
        return int(asked) * 1.0
    from email.utils import parsedate_to_datetime  # noqa: PLC0415  # slow to import, seldom needed

    try:
        due = parsedate_to_datetime(asked)
        return None if due.tzinfo is None else max(0.0, due.timestamp() - response.at)
    except (ValueError, TypeError, OverflowError):
        return None


@frozen(slots=True)
class _Told:
    """What one try came to: what is to be said of it, and what it means for the call."""

    reason: str
    words: str
    doubtful: bool
    repeatable: bool


class _Call:
    """What the tries of one call have shown so far."""

    def __init__(self, idempotent: bool, key: str | None, reference: str | None) -> None:
        self.idempotent = idempotent
        self.key = key
        self.reference = reference
        self.tries = 0
        self.request_id: str | None = None
        self.doubt = False
        self.unfinished = False
        self.may_repeat = False
        self.last = ""
        self.reason = ""
        self.route = ""

    def note(self, answer: Response | NoAnswer) -> None:
        """Take in what came of one more try."""
        self.tries += 1
        self.route = answer.request.route
        self.request_id = request_id(answer) or self.request_id
        told = self._told(answer)
        self.unfinished = told is not None
        if told is not None:
            self.reason, self.last = told.reason, told.words
            self.may_repeat = told.repeatable
            self.doubt = self.doubt or (told.doubtful and answer.request.method not in _SAFE_METHODS)

    def _told(self, answer: Response | NoAnswer) -> _Told | None:
        if isinstance(answer, NoAnswer):
            if answer.sent is Sent.NOT_SENT:
                return _Told("unreachable", answer.problem, doubtful=False, repeatable=True)
            return _Told("no_answer", answer.problem, doubtful=True, repeatable=self.idempotent)
        words = f"the bank answered {answer.status}"
        if answer.status >= 500:
            return _Told("server_error", words, doubtful=True, repeatable=self.idempotent)
        if answer.status == 429:
            return _Told("rate_limited", words, doubtful=False, repeatable=True)
        if answer.status == 409 and _key_in_use(answer.body):
            words += ", the key is in use by an earlier try"
            return _Told("key_in_use", words, doubtful=True, repeatable=self.idempotent)
        if self.doubt and answer.status in BEFORE_THE_KEY:
            words += " to a repetition, which does not say what became of the first try"
            return _Told("refused_on_repeat", words, doubtful=True, repeatable=False)
        return None

    def failure(self) -> DepositTokenError:
        """The error that tells the caller where that leaves it."""
        what = f"{self.route}: {self.last} (after {self.tries} {'try' if self.tries == 1 else 'tries'})."
        if not self.doubt:
            return BankUnavailable(
                self.reason, f"{what} The bank did nothing: try again later.", request_id=self.request_id
            )
        by = f" by reference {self.reference}" if self.reference else ""
        return OutcomeUnknown(
            f"{what} The bank may have done it: ask{by} before anything is sent again.",
            key=self.key,
            request_id=self.request_id,
            reference=self.reference,
        )


def _wait(answer: Response | NoAnswer, policy: Retry, tries: int, randomness: float) -> float:
    asked = retry_after(answer) if isinstance(answer, Response) else None
    if asked is None:
        return policy.wait(tries, randomness)
    return min(asked, policy.patience) + randomness * policy.base


def _key_in_use(body: bytes) -> bool:
    try:
        problem = json.loads(body)
    except (ValueError, RecursionError):
        return False
    if not isinstance(problem, dict):
        return False
    named = (str(problem.get("type", "")).rpartition("/")[2], problem.get("code"))
    return "idempotency_key_in_use" in named
