"""The synchronous client: it runs an issuer's exchanges over a transport, one call at a time and in any thread.

The verbs are the issuer's own, with their signatures and types. The rule it keeps: an exchange is run once, to its
end or to its closing; each request is signed at the moment it is sent; one call makes one `CallDetails`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from inspect import GEN_CREATED, getgeneratorstate
from typing import TYPE_CHECKING, Concatenate, ParamSpec, Protocol, Self, TypeVar

from attrs import frozen

from deposit_token_sdk.errors import DepositTokenError, InvalidInput, Unsupported
from deposit_token_sdk.exchange import Exchange, NoAnswer, Pause, Request, Response, Resumed, request_id
from deposit_token_sdk.instrumentation import OK, CallDetails, Hook, log_call, tell
from deposit_token_sdk.issuers.protocol import Collects, Issuer

if TYPE_CHECKING:
    from deposit_token_sdk.settings import OfferRules

P = ParamSpec("P")
T = TypeVar("T")
Host = TypeVar("Host")


class Carrier(Protocol):
    """What the runner needs of a transport."""

    def answer(self, request: Request, deadline: float, began: float | None = None) -> Response | NoAnswer:
        """Send once, within `deadline` seconds; `began` is the exchange's beginning on the monotonic clock."""
        ...

    def close(self) -> None:
        """Let go of what is held."""
        ...


def _fresh_nonce() -> str:
    """192 bits of the system's randomness; `secrets` would bring hashing with it."""
    return os.urandom(24).hex()


@frozen
class Clock:
    """The time as the runner sees it: seconds since 1970, a clock that never goes back, a wait, and fresh nonces."""

    now: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    nonce: Callable[[], str] = _fresh_nonce


CLOCK = Clock()


def run(
    exchange: Exchange[T],
    transport: Carrier,
    clock: Clock = CLOCK,
    observe: Callable[[Response | NoAnswer], object] | None = None,
) -> T:
    """Drive an exchange to its end and return its result; `observe` is shown every answer.

    Raises InvalidInput (``exchange_not_fresh``) if it has been started before, and whatever the exchange raises. On
    any error, an interrupt included, the exchange is closed.
    """
    if getgeneratorstate(exchange) != GEN_CREATED:
        raise InvalidInput(
            "exchange_not_fresh", "An exchange is run once: call the issuer's method again for another run."
        )
    began = clock.monotonic()
    news: Response | NoAnswer | Resumed | None = None
    try:
        while True:
            try:
                step = exchange.send(news)  # type: ignore[arg-type]  # None starts it
            except StopIteration as end:
                result: T = end.value
                return result
            news = _done(step, transport, clock, began)
            if observe is not None and not isinstance(news, Resumed):
                observe(news)
    finally:
        exchange.close()


def _done(step: Request | Pause, transport: Carrier, clock: Clock, began: float) -> Response | NoAnswer | Resumed:
    if isinstance(step, Pause):
        clock.sleep(step.seconds)
        return Resumed(clock.now(), clock.monotonic() - began)
    if step.sign is not None:
        step = step.sign(step, clock.now(), clock.nonce())
    return transport.answer(step, step.timeout, began)


def _verb(method: Callable[Concatenate[Host, P], Exchange[T]]) -> Callable[Concatenate[Client, P], T]:
    """The issuer's method as a method of the client: same name, parameters and result, run to its end.

    Raises Unsupported, before anything is sent, where the issuer has no such verb.
    """
    name = method.__name__

    @wraps(method)
    def verb(self: Client, /, *args: P.args, **kwargs: P.kwargs) -> T:
        described: Callable[P, Exchange[T]] | None = getattr(self.issuer, name, None)
        if described is None:
            raise Unsupported(self.issuer.name, name, f"{self.issuer.name} cannot do {name}.")
        return self._run(name, described(*args, **kwargs))

    verb.__qualname__ = f"Client.{name}"
    return verb


class Client:
    """One bank, for one merchant. Safe to share between threads and to keep across a fork.

    `hooks` are handed a `CallDetails` after every call. A transport that is given is the caller's to close. `rules` are
    the shop's on what it offers, for the checkout: the client itself does not ask them.
    """

    def __init__(
        self,
        issuer: Issuer,
        *,
        transport: Carrier | None = None,
        hooks: Iterable[Hook] = (),
        clock: Clock = CLOCK,
        rules: OfferRules | None = None,
    ) -> None:
        self.issuer = issuer
        self.rules = rules
        self._owned = transport is None
        self._transport = _transport() if transport is None else transport
        self._hooks = (log_call, *hooks)
        self._clock = clock

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ, *, hooks: Iterable[Hook] = ()) -> Self:
        """The client that the DEPOSIT_TOKEN_* variables describe. Raises ConfigurationError."""
        from deposit_token_sdk.issuers import issuer_from  # noqa: PLC0415  # an issuer brings all of signing
        from deposit_token_sdk.settings import Settings  # noqa: PLC0415  # as above

        settings = Settings.from_env(environ)
        client = cls(
            issuer_from(settings),
            transport=_transport(
                ca_bundle=settings.ca_bundle,
                client_cert=settings.client_cert,
                client_key=settings.client_key,
                max_bytes=settings.max_bytes,
                environ=environ,
            ),
            hooks=hooks,
            rules=settings.offer_rules,
        )
        client._owned = True
        return client

    tokens = _verb(Issuer.tokens)
    quote = _verb(Issuer.quote)
    create_invoice = _verb(Issuer.create_invoice)
    invoice = _verb(Issuer.invoice)
    find_invoice = _verb(Issuer.find_invoice)
    invoices = _verb(Issuer.invoices)
    cancel = _verb(Issuer.cancel)
    capture = _verb(Issuer.capture)
    release = _verb(Issuer.release)
    refund = _verb(Issuer.refund)
    refund_status = _verb(Issuer.refund_status)
    find_refund = _verb(Issuer.find_refund)
    collect = _verb(Collects.collect)
    statements = _verb(Issuer.statements)
    backing = _verb(Issuer.backing)
    ledger = _verb(Issuer.ledger)
    test_webhook = _verb(Issuer.test_webhook)
    read_event = _verb(Issuer.read_event)
    report_event = _verb(Issuer.report_event)
    report_invoice = _verb(Issuer.report_invoice)

    def close(self) -> None:
        """Close the idle connections."""
        if self._owned:
            self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self, verb: str, exchange: Exchange[T]) -> T:
        tally = _Tally()
        began = self._clock.monotonic()
        outcome = OK
        try:
            return run(exchange, self._transport, self._clock, tally.observe)
        except DepositTokenError as error:
            outcome = error.reason
            raise
        except BaseException as error:
            outcome = type(error).__name__
            raise
        finally:
            seconds = self._clock.monotonic() - began
            tell(
                self._hooks,
                CallDetails(
                    verb=verb,
                    issuer=self.issuer.name,
                    route=tally.route,
                    status=tally.status,
                    tries=tally.tries,
                    seconds=seconds,
                    request_id=tally.request_id,
                    outcome=outcome,
                ),
            )


class _Tally:
    """What the answers of one call have shown so far; a later fetch of keys does not hide what was called."""

    route: str | None = None
    status: int | None = None
    request_id: str | None = None
    tries = 0

    def observe(self, answer: Response | NoAnswer) -> None:
        self.route = self.route or answer.request.route
        if answer.request.route == self.route:
            self.tries += 1
            self.status = answer.status if isinstance(answer, Response) else None
            self.request_id = request_id(answer) or self.request_id


def _transport(**settings: object) -> Carrier:
    """The transport over requests, imported when the first client is made, not before."""
    from deposit_token_sdk.transport import Transport  # noqa: PLC0415  # requests takes longer than all of ours

    return Transport(**settings)  # type: ignore[arg-type]  # Transport checks each of them itself
