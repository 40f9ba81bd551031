"""The shop's own code, called inside the transaction that applies the bank's news.

Each hook runs in that transaction and writes through the session it is given; it must neither commit nor roll
back. One that raises undoes the whole transaction, is recorded, and is called again at the next delivery.
Only `on_paid` fulfils.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from attrs import frozen

if TYPE_CHECKING:
    from deposit_token_sdk.checkout.store import Attempt, Tx
    from deposit_token_sdk.lifecycle import Standing
    from deposit_token_sdk.models import Confirmation
    from deposit_token_sdk.offers.policy import Screened


class Late(StrEnum):
    """What `on_late` may answer: fulfil after all, send the money back, or let a person decide."""

    ACCEPT = "accept"
    REFUND = "refund"
    HOLD = "hold"


@frozen
class Paid:
    """An order is paid: made once per order, when accepted, settled money covers what is due.

    `received` is in token units; `confirmations` are the bank's signed words that came with this report.
    """

    order_id: str
    reference: str
    attempt: Attempt
    received: int
    confirmations: tuple[Confirmation, ...]


@frozen
class News:
    """What any other hook is told. `detail` is for people: the reason of a review, the reference of a refund.

    `attempt` is None, and `order_id` empty, where a message fits no attempt.
    """

    order_id: str
    reference: str
    attempt: Attempt | None
    standing: Standing | None
    detail: str


PaidHook: TypeAlias = Callable[[Paid, Any], object]
NewsHook: TypeAlias = Callable[[News, Any], object]
LateHook: TypeAlias = Callable[[News, Any], Late]
ScreenHook: TypeAlias = "Callable[[Screened], bool | str]"
P = TypeVar("P", bound=PaidHook)
H = TypeVar("H", bound=NewsHook)
L = TypeVar("L", bound=LateHook)
S = TypeVar("S", bound=ScreenHook)
C = TypeVar("C", bound=Callable[..., Any])


class HookFailed(Exception):
    """The shop's own hook raised; carries its name. Never leaves the checkout."""


class Hooks:
    """The registered hooks, one of each name; registering another replaces it."""

    def __init__(self) -> None:
        self._hooks: dict[str, Callable[..., Any]] = {}

    def on_paid(self, hook: P) -> P:
        """Once per order, in the transaction that marks it paid. Fulfils."""
        return self._register("paid", hook)

    def on_late(self, hook: L) -> L:
        """Money that covers what is due, accepted after the quote expired: answer a `Late`. Without a hook: hold."""
        return self._register("late", hook)

    def on_authorized(self, hook: H) -> H:
        """A payment is held, waiting for `capture`. Does not fulfil."""
        return self._register("authorized", hook)

    def on_underpaid(self, hook: H) -> H:
        """Some money came, but less than is due. Does not fulfil."""
        return self._register("underpaid", hook)

    def on_overpaid(self, hook: H) -> H:
        """More came than was due; also put up for review. Does not fulfil."""
        return self._register("overpaid", hook)

    def on_expired(self, hook: H) -> H:
        """The bank says that the invoice expired. Does not fulfil."""
        return self._register("expired", hook)

    def on_cancelled(self, hook: H) -> H:
        """The bank says that the invoice was cancelled. Does not fulfil."""
        return self._register("cancelled", hook)

    def on_refunded(self, hook: H) -> H:
        """A refund is done, by the bank's signed word. `detail` is its reference."""
        return self._register("refunded", hook)

    def on_refund_failed(self, hook: H) -> H:
        """A refund failed, maybe days after it was done; its amount is free again. `detail` is its reference."""
        return self._register("refund_failed", hook)

    def on_returned(self, hook: H) -> H:
        """The bank took settled money back. Further refunds are refused."""
        return self._register("returned", hook)

    def on_review(self, hook: H) -> H:
        """Something was put up for a person; `detail` says why."""
        return self._register("review", hook)

    def on_screen(self, hook: S) -> S:
        """The shop's own screening of a sale, asked last and in no transaction: before anything is written or the bank
        is asked, and while offers are listed. True lets pass; a text refuses with that text, and so do False, anything
        else, and an error."""
        return self._register("screen", hook)

    @property
    def screening(self) -> Callable[[Screened], object] | None:
        """What `on_screen` was given."""
        return self._hooks.get("screen")

    def call(self, name: str, news: Paid | News, tx: Tx) -> Any:
        """Call the hook of this name, if there is one, and have written what it left to be written.

        Raises HookFailed from whatever either raised.
        """
        hook = self._hooks.get(name)
        if hook is None:
            return None
        try:
            answer = hook(news, tx.session)
            tx.flush()
        except Exception as error:
            raise HookFailed(f"on_{name} raised {type(error).__name__}") from error
        return answer

    def ask_late(self, news: News, tx: Tx) -> Late:
        """What `on_late` decides; HOLD without one. Raises HookFailed, for an answer that is no `Late` too."""
        answer = self.call("late", news, tx)
        try:
            return Late.HOLD if answer is None else Late(answer)
        except ValueError as error:
            raise HookFailed(f"on_late answered {answer!r}, not one of {', '.join(Late)}") from error

    def _register(self, name: str, hook: C) -> C:
        self._hooks[name] = hook
        return hook
