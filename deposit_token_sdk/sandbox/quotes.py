"""Price locks: the bank's signed word on what an amount comes to in one of its tokens, and until when."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from hashlib import sha256
from typing import Any

from attrs import evolve
from sqlalchemy import RowMapping, delete, insert

from deposit_token_sdk.errors import InvalidInput
from deposit_token_sdk.money import Money
from deposit_token_sdk.sandbox import pricing
from deposit_token_sdk.sandbox.desk import Desk, new_id
from deposit_token_sdk.sandbox.problems import Refused
from deposit_token_sdk.sandbox.tables import add, change, facts, quotes, rows
from deposit_token_sdk.signing import strict_json
from deposit_token_sdk.signing.base64url import encode_url

TYP = "deposit-quote+jws"
_HIGHEST_RATE = 1_000_000
_REFERENCE = re.compile(r"[A-Za-z0-9]{1,34}", re.ASCII)
_INSTALLATION = re.compile(r"[\x21-\x7e]{1,128}", re.ASCII)


def create(desk: Desk, merchant: str, asked: dict[str, Any]) -> dict[str, Any]:
    """`POST /quotes`: price it, sign it, keep it."""
    terms = read_terms(desk, asked)
    token = token_of(strict_json.text(asked, "token"))
    bearer = one_of(asked, "bearer", "DEBT", "CRED")
    price = _price(strict_json.member(asked, "price"))
    priced = pricing.price(_as_it_stands(desk, token, price.currency), price.currency, price.amount, bearer)
    quote = new_id("quo")
    expires_at = desk.now + desk.house.quote_life
    row = {
        "id": quote,
        "merchant": merchant,
        **terms,
        "currency": price.currency,
        "amount": f"{price.amount:f}",
        "token": token.code,
        "rate": priced.rate,
        "fee": priced.fee,
        "bearer": bearer,
        "due": priced.due,
        "net": priced.net,
        "expires_at": expires_at,
    }
    row |= _stated(desk, row)
    desk.db.execute(add(quotes), row)
    return {"id": quote, "reference": terms["reference"], "statement": row["statement"]}


def _stated(desk: Desk, row: Mapping[str, Any]) -> dict[str, str]:
    """The bank's signed word on a quote, and its digest."""
    claims = {
        **desk.common_claims(row["merchant"], row["installation"]),
        "jti": row["id"],
        "reference": row["reference"],
        "price": {"currency": row["currency"], "amount": row["amount"]},
        "token": row["token"],
        "decimals": pricing.TOKENS[row["token"]].decimals,
        "rate": row["rate"],
        "fee": str(row["fee"]),
        "bearer": row["bearer"],
        "due": str(row["due"]),
        "net": str(row["net"]),
        "expires_at": strict_json.rfc3339(row["expires_at"]),
    }
    statement = desk.sign(TYP, claims)
    return {"statement": statement, "digest": encode_url(sha256(statement.encode("ascii")).digest())}


def assign(desk: Desk, row: RowMapping, terms: Mapping[str, str], until: datetime | None) -> RowMapping:
    """Give a price that was locked for no reference yet to this one, ending it sooner where `until` says so.

    For dialects, whose buyers are told a price before there is a reference. Raises Refused (``quote_used``).
    """
    if row["invoice"] is not None:
        raise Refused("quote_used", f"The quote belongs to the invoice {row['invoice']}.")
    given = {**row, **terms, "expires_at": min(row["expires_at"], until or row["expires_at"])}
    values = {**terms, "expires_at": given["expires_at"], **_stated(desk, given)}
    desk.db.execute(change(quotes), {"which": row["id"], **values})
    return find(desk, row["id"])


def current_rate(desk: Desk, code: str, currency: str) -> str:
    """The rate that a quote would have now. Raises Refused (``unknown_token``, ``unsupported_currency``)."""
    return pricing.rate(_as_it_stands(desk, token_of(code), currency), currency)


def set_rate(desk: Desk, code: str, currency: str, mid: str | None) -> dict[str, str]:
    """From now on, quotes in `currency` go by this middle rate, token currency for one unit; None: the table's again.

    Returns the middle rate and, with the spread, the one that is quoted. Raises Refused (``unknown_token``,
    ``unsupported_currency``, ``malformed``).
    """
    token = token_of(code)
    pricing.rate(token, currency)  # refuses a currency that has no rate at all
    named = _fact(token, currency)
    desk.db.execute(delete(facts).where(facts.c.name == named))
    if mid is not None:
        chosen = strict_json.plain({"rate": mid}, "rate")
        if not 0 < chosen < _HIGHEST_RATE or -int(chosen.as_tuple().exponent) > pricing.RATE_DECIMALS:
            bounds = f"above 0, below {_HIGHEST_RATE}, with at most {pricing.RATE_DECIMALS} decimals"
            raise Refused("malformed", f"A rate is {bounds}, not {mid[:40]!r}.")
        desk.db.execute(insert(facts).values(name=named, value=mid))
    now = _as_it_stands(desk, token, currency)
    return {"token": code, "currency": currency, "mid": now.mids[currency], "rate": pricing.rate(now, currency)}


def _as_it_stands(desk: Desk, token: pricing.DemoToken, currency: str) -> pricing.DemoToken:
    """The token with the rate that was set for this currency, if one was."""
    set_to = desk.db.execute(rows(facts, "name"), {"name": _fact(token, currency)}).one_or_none()
    return token if set_to is None else evolve(token, mids={**token.mids, currency: set_to.value})


def _fact(token: pricing.DemoToken, currency: str) -> str:
    return f"rate {token.code} {currency}"


def find(desk: Desk, quote_id: str, merchant: str | None = None) -> RowMapping:
    """A quote's row. Raises Refused (``unknown_quote``)."""
    detail = f"There is no quote {quote_id[:60]!r} of this merchant."
    return desk.owned(quotes, quote_id, merchant, "unknown_quote", detail)


def token_of(code: str, *, status: int | None = None) -> pricing.DemoToken:
    """A token this bank issues. Raises Refused (``unknown_token``)."""
    token = pricing.TOKENS.get(code)
    if token is None:
        raise Refused(
            "unknown_token", f"This bank issues {', '.join(pricing.TOKENS)}, not {code[:40]!r}.", status=status
        )
    return token


def read_terms(desk: Desk, asked: dict[str, Any]) -> dict[str, str]:
    """Reference and installation of a request, and that its mode is this bank's. Raises Refused."""
    reference = strict_json.text(asked, "reference")
    if not _REFERENCE.fullmatch(reference):
        raise Refused("malformed", "A reference is 1 to 34 letters and digits.")
    installation = strict_json.text(asked, "installation")
    if not _INSTALLATION.fullmatch(installation):
        raise Refused("malformed", "An installation is 1 to 128 visible ASCII characters.")
    mode = strict_json.text(asked, "mode")
    if mode != desk.house.mode:
        raise Refused("wrong_mode", f"This bank runs in mode {desk.house.mode!r}; the request says {mode[:20]!r}.")
    return {"reference": reference, "installation": installation}


def one_of(asked: dict[str, Any], name: str, *allowed: str) -> str:
    """A member that is one of a few words. Raises Refused (``malformed``)."""
    word = strict_json.text(asked, name)
    if word not in allowed:
        raise Refused("malformed", f"{name!r} is one of {', '.join(allowed)}, not {word[:40]!r}.")
    return word


def _price(asked: dict[str, Any]) -> Money:
    currency = strict_json.text(asked, "currency")
    try:
        price = Money(strict_json.plain(asked, "amount"), currency)
    except InvalidInput as error:
        code = "unsupported_currency" if error.reason == "unknown_currency" else "malformed"
        raise Refused(code, str(error)) from None
    if price.amount <= 0:
        raise Refused("malformed", "A price is more than nothing.")
    return price
