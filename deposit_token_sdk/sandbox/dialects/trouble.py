"""The bank's faults, for a dialect: taken where the bank's own API would take them, told as the dialect tells them.

A rule that names one of the reference API's routes strikes the dialect's operation that does the same.
"""

from __future__ import annotations

from typing import Any

from attrs import frozen
from flask import Response, request

from deposit_token_sdk.sandbox import trouble
from deposit_token_sdk.sandbox.bank import Bank


@frozen
class Trouble:
    """What may go wrong with one request: `where` has the ids and references at hand, and the reference API's route."""

    bank: Bank
    where: dict[str, Any]

    @classmethod
    def of(cls, bank: Bank, named: tuple[str, ...], route: str) -> Trouble:
        """For a request about what is `named` so."""
        return cls(bank, trouble.where(bank, named, route))

    def strikes(self, kind: str) -> bool:
        """Whether this goes wrong here; counted down if so."""
        return self.bank.faults.take(kind, **self.where) is not None

    def delay(self) -> None:
        """The answer comes late."""
        if late := self.bank.faults.take("latency", **self.where):
            self.bank.pause(late.seconds)

    def spoil(self, answer: Response) -> Response:
        """The answer as it goes out: cut off, or a little at a time."""
        if self.strikes("dropped"):
            request.environ[trouble.DROP] = True
        trouble.drip(self.bank, self.where, answer)
        return answer
