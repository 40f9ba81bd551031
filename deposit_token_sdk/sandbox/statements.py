"""The bank's word again, at any time; and its word on the whole: tokens in circulation equal deposits held."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import RowMapping, select, update

from deposit_token_sdk.sandbox import clock, keyring, ledger, pricing, quotes
from deposit_token_sdk.sandbox.desk import Desk
from deposit_token_sdk.sandbox.problems import Refused
from deposit_token_sdk.sandbox.tables import refunds as refund_table
from deposit_token_sdk.sandbox.tables import statements, transfers
from deposit_token_sdk.signing import jws, strict_json

BACKING = "deposit-backing+jws"
_SHOWN = ("payment", "return", "refund", "fee", "refund_failed")
_PAGE = 500
_MAX_PAGE = 2000  # about half of the 1 MiB that a client reads at most


def about(desk: Desk, row: RowMapping) -> list[str]:
    """Settlements, returns and refunds done of an invoice; under the current key where the old one is revoked."""
    chosen = select(statements).where(statements.c.invoice == row["id"]).order_by(statements.c.seq)
    failed = select(refund_table.c.id).where(refund_table.c.invoice == row["id"], refund_table.c.status != "done")
    undone = set(desk.db.execute(failed).scalars())
    revoked = keyring.revoked(desk.db)
    standing = [each for each in desk.db.execute(chosen).mappings().all() if each["subject"] not in undone]
    return [_again(desk, each) if each["kid"] in revoked else each["jws"] for each in standing]


def _again(desk: Desk, statement: RowMapping) -> str:
    claims = strict_json.parse(statement["claims"].encode()) | {"iat": int(desk.real.timestamp())}
    signed = desk.sign(statement["typ"], claims)
    desk.db.execute(
        update(statements)
        .where(statements.c.id == statement["id"])
        .values(jws=signed, kid=jws.peek_kid(signed), claims=strict_json.dumps(claims).decode())
    )
    return signed


def tokens(desk: Desk) -> list[dict[str, Any]]:
    """The tokens this bank issues, as the API shows them."""
    return [
        {
            "code": token.code,
            "currency": token.currency,
            "decimals": token.decimals,
            "issuer": desk.house.issuer,
            "kind": "deposit",
            "rail": "sandbox-ledger",
        }
        for token in pricing.TOKENS.values()
    ]


def backing(desk: Desk, merchant: str, code: str) -> str:
    """The signed attestation for one token. Raises Refused (``unknown_token``)."""
    token = quotes.token_of(code, status=404)
    circulation, deposits = ledger.supply(desk.db, token.code)
    common = desk.common_claims(merchant, "")
    claims = {name: common[name] for name in ("iss", "aud", "iat", "jti")}
    claims |= {"token": token.code, "circulation": str(circulation), "deposits": str(deposits)}
    return desk.sign(BACKING, claims | {"as_of": strict_json.rfc3339(desk.now)})


def day(desk: Desk, merchant: str, text: str, after: int, limit: int | None) -> dict[str, Any]:
    """A page of what moved for a merchant on one day, in UTC and business time; `after` is a cursor or 0.

    Raises Refused (``malformed``).
    """
    begin, end = clock.day(text)
    limit = _PAGE if limit is None else limit
    if not 1 <= limit <= _MAX_PAGE:
        raise Refused("malformed", f"limit is 1 to {_MAX_PAGE}.")
    chosen = select(transfers).where(
        transfers.c.merchant == merchant,
        transfers.c.at >= begin,
        transfers.c.at < end,
        transfers.c.kind.in_(_SHOWN),
        transfers.c.seq > after,
    )
    rows = list(desk.db.execute(chosen.order_by(transfers.c.seq).limit(limit + 1)).mappings())
    shown = rows[:limit]
    references = _refund_references(desk, shown)
    return {
        "date": begin.date().isoformat(),
        "entries": [_entry(each, references) for each in shown],
        "next": str(shown[-1]["seq"]) if len(rows) > limit else None,
    }


def _refund_references(desk: Desk, rows: list[RowMapping]) -> Mapping[str, str]:
    """The shop's own reference of each refund that is booked in these rows, by the refund's id."""
    named = [row["movement"] for row in rows if row["kind"].startswith("refund")]
    found: dict[str, str] = {}
    for at in range(0, len(named), _PAGE):
        chosen = select(refund_table.c.id, refund_table.c.reference)
        ids = refund_table.c.id.in_(named[at : at + _PAGE])
        found.update({row.id: row.reference for row in desk.db.execute(chosen.where(ids))})
    return found


def _entry(row: RowMapping, references: Mapping[str, str]) -> dict[str, Any]:
    named = {name: row[name] for name in ("id", "kind", "invoice", "reference", "movement", "token")}
    told = {**named, "at": strict_json.rfc3339(row["at"]), "units": str(row["units"])}
    reference = references.get(row["movement"])
    return told if reference is None else {**told, "refund_reference": reference}
