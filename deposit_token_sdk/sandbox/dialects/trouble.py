"""The bank's faults, for a dialect: taken where the bank's own API would take them, told as the dialect tells them.

A rule that names one of the reference API's routes strikes the dialect's operation that does the same.
"""

from __future__ import annotations

from attrs import frozen
from flask import Response, request

from deposit_token_sdk.sandbox import invoices
from deposit_token_sdk.sandbox.bank import Bank
from deposit_token_sdk.sandbox.web import DROP, drip


@frozen
class Trouble:
    """What may go wrong with one request: `about` are the ids and references at hand, `route` the reference API's."""

    bank: Bank
    about: tuple[str, ...]
    route: str

    @classmethod
    def of(cls, bank: Bank, named: tuple[str, ...], route: str) -> Trouble:
        """With the other names of what is asked about, where any fault is in force."""
        if named and bank.faults:
            with bank.reading() as db:
                named += invoices.other_names(db, named)
        return cls(bank, named, route)

    def strikes(self, kind: str) -> bool:
        """Whether this goes wrong here; counted down if so."""
        return self.bank.faults.take(kind, about=self.about, route=self.route) is not None

    def delay(self) -> None:
        """The answer comes late."""
        if late := self.bank.faults.take("latency", about=self.about, route=self.route):
            self.bank.pause(late.seconds)

    def spoil(self, answer: Response) -> Response:
        """The answer as it goes out: cut off, or a little at a time."""
        if self.strikes("dropped"):
            request.environ[DROP] = True
        if slow := self.bank.faults.take("dripping", about=self.about, route=self.route):
            drip(self.bank, answer, slow.seconds)
        return answer
