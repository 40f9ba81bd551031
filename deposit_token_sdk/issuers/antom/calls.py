"""A call of Antom: one signed POST, its answer verified before a word of it is read.

An answer's signature does not name its request, so it must be fresh, and whoever reads it compares the ids in it. A
result of U is asked again under the same ids, for as long as the policy allows, and is then unknown: never failed.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from typing import Any, Final
from urllib.parse import urlsplit

from attrs import frozen

from deposit_token_sdk.errors import BankRefused, BankUnavailable, NotGenuine, NotOurs, OutcomeUnknown, Unreadable
from deposit_token_sdk.exchange import Exchange, Request, Response, pause, request_id
from deposit_token_sdk.issuers.antom import words
from deposit_token_sdk.issuers.antom.options import Options
from deposit_token_sdk.retry import Retry, persist
from deposit_token_sdk.signing import rsa256, strict_json
from deposit_token_sdk.signing.keys import VerificationKey
from deposit_token_sdk.signing.rsa256 import Message

_JSON: Final = "application/json; charset=UTF-8"


@frozen
class Answer:
    """A verified answer: its members, and what is kept of it as evidence. `at` is the time of its receipt."""

    body: dict[str, Any]
    code: str
    message: Message
    signature: str
    key: VerificationKey
    at: float


@frozen
class Calls:
    """Calls for one client id. `skew` is by how many seconds Antom's clock and ours may differ."""

    options: Options
    client: str
    policy: Retry
    skew: float

    def ask(
        self,
        operation: str,
        body: dict[str, Any],
        *,
        key: str | None = None,
        reference: str | None = None,
        acts: bool = False,
        pending: bool = False,
    ) -> Exchange[Answer]:
        """The answer with status S; with `pending`, also that a refund is in process. Raises BankRefused for F.

        What cannot be known is OutcomeUnknown where the call `acts`, and BankUnavailable where it only asks.
        """
        elapsed, tries = 0.0, 0
        make = partial(self._request, operation, strict_json.dumps_exact(body))
        while True:
            try:
                response = yield from persist(
                    make, self.policy, idempotent=True, key=key, reference=reference, elapsed=elapsed
                )
            except OutcomeUnknown as unknown:
                if acts:
                    raise
                told = f"{operation} only asks, and no answer came: ask again later."
                raise BankUnavailable("no_answer", told, request_id=unknown.request_id) from unknown
            tries += 1
            answer, status, told = self._read(response, operation)
            if status == "S" or (pending and answer.code == words.REFUND_IN_PROCESS):
                return answer
            if status == "F":
                raise _refusal(response, operation, answer.code, told)
            wait = self.policy.wait(tries, 1.0)
            if tries >= self.policy.attempts or response.elapsed + wait >= self.policy.deadline:
                raise _unknown(response, operation, answer.code, key, reference, acts=acts)
            resumed = yield from pause(wait)
            elapsed = resumed.elapsed

    def _request(self, operation: str, body: bytes, timeout: float) -> Request:
        url = f"{self.options.url}{self.options.prefix}{operation}"
        headers = {"content-type": _JSON, rsa256.CLIENT: self.client}
        return Request("POST", url, f"POST {operation}", headers, body, timeout, self._sign)

    def _sign(self, request: Request, now: float, _nonce: str) -> Request:
        time = written(moment_of(now))
        message = Message(urlsplit(request.url).path, self.client, time, request.body or b"")
        added = {rsa256.REQUEST_TIME: time, rsa256.SIGNATURE: rsa256.sign(message, self.options.key)}
        headers = {**request.headers, **added}
        return Request(request.method, request.url, request.route, headers, request.body, request.timeout, request.sign)

    def _read(self, response: Response, operation: str) -> tuple[Answer, str, str]:
        """The verified answer, its result's status and message."""
        if rsa256.SIGNATURE not in response.headers:
            raise NotGenuine(
                "answer_unsigned",
                f"The answer to {operation} ({response.status}) is not signed: something answered in Antom's place, or "
                f"Antom does not know this client, its key or this path.",
                hint=_unsigned_code(response.body),
            )
        path = urlsplit(response.request.url).path
        message, signature = rsa256.read(response.headers, response.body, path=path, time_header=rsa256.RESPONSE_TIME)
        if message.client != self.client:
            raise NotOurs("other_merchant", f"The answer is for client {message.client}, not for {self.client}.")
        key = rsa256.verify(message, signature, self.options.keys)
        rsa256.require_fresh(message, now=response.at, skew=self.skew)
        body = strict_json.parse(response.body)
        result = strict_json.member(body, "result")
        code = strict_json.text(result, "resultCode")
        answer = Answer(body, code, message, signature, key, response.at)
        return (
            answer,
            strict_json.text(result, "resultStatus"),
            strict_json.optional_text(result, "resultMessage") or "",
        )


def _refusal(response: Response, operation: str, code: str, told: str) -> BankRefused:
    return BankRefused(
        code,
        f"Antom refused {operation} ({code}): {told}".rstrip(": "),
        status=response.status,
        request_id=request_id(response),
        reason=words.reason_of(code),
    )


def _unknown(
    response: Response, operation: str, code: str, key: str | None, reference: str | None, *, acts: bool
) -> OutcomeUnknown | BankUnavailable:
    told = f"{operation}: Antom says that it is unknown ({code})"
    if not acts:
        return BankUnavailable("unknown_yet", f"{told}: ask again later.", request_id=request_id(response))
    return OutcomeUnknown(
        f"{told}. It may have been done: ask by {reference} before anything is sent again.",
        key=key,
        request_id=request_id(response),
        reference=reference,
    )


def _unsigned_code(body: bytes) -> str | None:
    """What an unsigned refusal says, for a person alone."""
    try:
        code = strict_json.text(strict_json.member(strict_json.parse(body), "result"), "resultCode")
    except Unreadable:
        return None
    return f"It says {code[:60]!r}, which nobody has signed."


def moment_of(at: float) -> datetime:
    """The whole second of a time in seconds since 1970."""
    return datetime.fromtimestamp(int(at), UTC)


def written(at: datetime) -> str:
    """A time as Antom writes it: ISO 8601, to the second."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
