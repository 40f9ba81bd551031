"""Double entry: every transfer is a set of postings that add up to nothing, or it is refused.

Per token one reserve account stands for the deposits the bank holds, in debit; all other accounts hold tokens, in
credit: buyers', merchants', the clearing account (money held or on its way) and the bank's fees. Since each
posting balances and no token account may be overdrawn, tokens in circulation equal deposits held, always.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from attrs import field, frozen
from sqlalchemy import BindParameter, Connection, Executable, bindparam, select

from deposit_token_sdk.sandbox.problems import Refused
from deposit_token_sdk.sandbox.tables import accounts, add, change, postings, transfers

_ANY: BindParameter[list[str]] = bindparam("names", expanding=True)
_BALANCES = select(accounts.c.id, accounts.c.balance).where(accounts.c.id.in_(_ANY))
_WRITTEN = ("id", "at", "kind", "token", "units", "merchant", "invoice", "reference", "movement")

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


def book(db: Connection, *booked: Transfer) -> None:
    """Book transfers, all or none. Raises UnbalancedPosting, or Refused (``insufficient_balance``) on an overdraft."""
    for transfer in booked:
        _require_balanced(transfer)
    names = {name for transfer in booked for name in transfer.postings}
    held: dict[str, int] = {row.id: row.balance for row in db.execute(_BALANCES, {"names": sorted(names)})}
    after = _after(held, booked)
    legs = [
        {"transfer": transfer.id, "account": name, "units": units}
        for transfer in booked
        for name, units in transfer.postings.items()
    ]
    _write(db, add(transfers), [{name: getattr(transfer, name) for name in _WRITTEN} for transfer in booked])
    _write(db, add(accounts), [_opened(name, units) for name, units in after.items() if name not in held])
    kept = [{"which": name, "balance": units} for name, units in after.items() if name in held]
    _write(db, change(accounts), kept)
    _write(db, add(postings), legs)


def _require_balanced(transfer: Transfer) -> None:
    if sum(transfer.postings.values()) != 0 or transfer.units <= 0:
        raise UnbalancedPosting(f"{transfer.kind}: the postings {dict(transfer.postings)} do not balance.")
    tokens = {name.split(":")[0] for name in transfer.postings}
    if tokens != {transfer.token}:
        raise UnbalancedPosting(f"{transfer.kind}: the postings mix {sorted(tokens)}.")


def _after(held: Mapping[str, int], booked: Iterable[Transfer]) -> dict[str, int]:
    """What each account holds after these transfers, one after the other. Raises Refused (``insufficient_balance``)."""
    after: dict[str, int] = {}
    for transfer in booked:
        for name, units in transfer.postings.items():
            before = after.get(name, held.get(name, 0))
            if before + units < 0 and name.split(":", 2)[1] != RESERVE:
                raise Refused("insufficient_balance", f"{name} holds {before} units; {-units} are needed.")
            after[name] = before + units
    return after


def _opened(name: str, units: int) -> dict[str, object]:
    token, kind, owner = name.split(":", 2)
    return {"id": name, "kind": kind, "owner": owner, "token": token, "balance": units}


def _write(db: Connection, statement: Executable, written: list[dict[str, Any]]) -> None:
    if written:
        db.execute(statement, written)


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
    book(db, issued(token, target, units, at))


def issued(token: str, target: str, units: int, at: datetime) -> Transfer:
    """The transfer that issues tokens for a deposit."""
    return Transfer("issue", token, units, at, between(account(RESERVE, token), target, units))


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
