"""Double entry: every transfer is a set of postings that add up to nothing, or it is refused.

Per token one reserve account stands for the deposits the bank holds, in debit; all other accounts hold tokens, in
credit: buyers', merchants', the clearing account (money held or on its way) and the bank's fees. Since each
posting balances and no token account may be overdrawn, tokens in circulation equal deposits held, always.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from datetime import datetime

from attrs import field, frozen
from sqlalchemy import Connection, insert, select, update

from deposit_token_sdk.sandbox.problems import Refused
from deposit_token_sdk.sandbox.tables import accounts, postings, transfers

RESERVE, BUYER, MERCHANT, CLEARING, FEES = "reserve", "buyer", "merchant", "clearing", "fees"


class UnbalancedPosting(Exception):
    """The postings do not add up to nothing: a mistake of the bank's, never an answer to a request."""


@frozen
class Transfer:
    """What is booked together. `units` is the amount moved, for reading; the postings say from where to where."""

    kind: str
    token: str
    units: int
    at: datetime
    postings: Mapping[str, int]
    merchant: str | None = None
    invoice: str | None = None
    reference: str | None = None
    movement: str | None = None
    id: str = field(factory=lambda: f"trf_{secrets.token_hex(10)}")


def account(kind: str, token: str, owner: str = "bank") -> str:
    """The id of an account; owned by the bank itself unless `owner` is named."""
    return f"{token}:{kind}:{owner}"


def between(source: str, target: str, units: int) -> dict[str, int]:
    """The postings that move `units` from one account to another."""
    return {source: -units, target: units}


def book(db: Connection, transfer: Transfer) -> None:
    """Book a transfer. Raises UnbalancedPosting, or Refused (``insufficient_balance``) on an overdraft."""
    if sum(transfer.postings.values()) != 0 or transfer.units <= 0:
        raise UnbalancedPosting(f"{transfer.kind}: the postings {dict(transfer.postings)} do not balance.")
    tokens = {name.split(":")[0] for name in transfer.postings}
    if tokens != {transfer.token}:
        raise UnbalancedPosting(f"{transfer.kind}: the postings mix {sorted(tokens)}.")
    row = {
        name: getattr(transfer, name)
        for name in ("id", "at", "kind", "token", "units", "merchant", "invoice", "reference", "movement")
    }
    db.execute(insert(transfers).values(row))
    for name, units in transfer.postings.items():
        _post(db, transfer.id, name, units)


def balance(db: Connection, name: str) -> int:
    """What an account holds, in token units; 0 where there is none. A reserve stands in debit, below 0."""
    found = db.execute(select(accounts.c.balance).where(accounts.c.id == name)).scalar()
    return 0 if found is None else found


def supply(db: Connection, token: str) -> tuple[int, int]:
    """Tokens in circulation and deposits held, in units: two sums over different accounts."""
    rows = db.execute(select(accounts.c.kind, accounts.c.balance).where(accounts.c.token == token)).all()
    circulation = sum(units for kind, units in rows if kind != RESERVE)
    deposits = -sum(units for kind, units in rows if kind == RESERVE)
    return circulation, deposits


def issue(db: Connection, token: str, target: str, units: int, at: datetime) -> None:
    """Take a deposit and issue as many tokens for it."""
    book(db, Transfer("issue", token, units, at, between(account(RESERVE, token), target, units)))


def audit(db: Connection) -> list[str]:
    """Every way in which the books contradict themselves, in words; empty when they hold."""
    wrong = []
    by_account: dict[str, int] = {}
    by_transfer: dict[str, int] = {}
    for transfer, name, units in db.execute(select(postings.c.transfer, postings.c.account, postings.c.units)):
        by_account[name] = by_account.get(name, 0) + units
        by_transfer[transfer] = by_transfer.get(transfer, 0) + units
    wrong += [f"{transfer} is out by {units}" for transfer, units in by_transfer.items() if units]
    held = db.execute(select(accounts.c.id, accounts.c.balance)).all()
    wrong += [
        f"{name} says {units}, its postings {by_account.get(name, 0)}"
        for name, units in held
        if units != by_account.get(name, 0)
    ]
    for token in {name.split(":")[0] for name, _ in held}:
        circulation, deposits = supply(db, token)
        if circulation != deposits:
            wrong.append(f"{token}: {circulation} in circulation, {deposits} deposited")
    return wrong


def _post(db: Connection, transfer: str, name: str, units: int) -> None:
    token, kind, owner = name.split(":", 2)
    held = db.execute(select(accounts.c.balance).where(accounts.c.id == name)).scalar()
    after = (held or 0) + units
    if after < 0 and kind != RESERVE:
        raise Refused("insufficient_balance", f"{name} holds {held or 0} units; {-units} are needed.")
    if held is None:
        db.execute(insert(accounts).values(id=name, kind=kind, owner=owner, token=token, balance=after))
    else:
        db.execute(update(accounts).where(accounts.c.id == name).values(balance=after))
    db.execute(insert(postings).values(transfer=transfer, account=name, units=units))
