"""The bank's word again, at any time; and its word on the whole: tokens in circulation equal deposits held."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

from sqlalchemy import RowMapping, select, update

from deposit_token_sdk.sandbox import keyring, ledger, pricing, quotes
from deposit_token_sdk.sandbox.desk import Desk
from deposit_token_sdk.sandbox.problems import Refused
from deposit_token_sdk.sandbox.tables import refunds as refund_table
from deposit_token_sdk.sandbox.tables import statements, transfers
from deposit_token_sdk.signing import jws, strict_json

BACKING = "deposit-backing+jws"
_SHOWN = ("payment", "return", "refund", "fee", "refund_failed")
_MAX_PAGE = 5000


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
    """What moved for a merchant on one day, in UTC and business time. Raises Refused (``malformed``)."""
    try:
        start = datetime.combine(date.fromisoformat(text), datetime.min.time(), UTC)
        end = start + timedelta(days=1)
    except (ValueError, OverflowError):
        raise Refused("malformed", f"{text[:20]!r} is no day: write 2026-11-24.") from None
    if limit is not None and not 1 <= limit <= _MAX_PAGE:
        raise Refused("malformed", f"limit is 1 to {_MAX_PAGE}.")
    chosen = select(transfers).where(
        transfers.c.merchant == merchant,
        transfers.c.at >= start,
        transfers.c.at < end,
        transfers.c.kind.in_(_SHOWN),
        transfers.c.seq > after,
    )
    ordered = chosen.order_by(transfers.c.seq)
    rows = list(desk.db.execute(ordered if limit is None else ordered.limit(limit + 1)).mappings())
    more = limit is not None and len(rows) > limit
    shown = rows[:limit]
    return {
        "date": start.date().isoformat(),
        "entries": [_entry(each) for each in shown],
        "next": str(shown[-1]["seq"]) if more else None,
    }


def _entry(row: RowMapping) -> dict[str, Any]:
    named = {name: row[name] for name in ("id", "kind", "invoice", "reference", "movement", "token")}
    return {**named, "at": strict_json.rfc3339(row["at"]), "units": str(row["units"])}
