"""The price where a bank quotes none: written by the checkout itself, in the token's own currency, unsigned.

Rate 1 and fee 0, so that what is due is the price to the unit; a price in another currency is refused, since nobody
here may say at what rate. The digest is over what was written, and goes with the payment, so that a payment is for
this price and no other. It stands as long as the issuer's setting says.
"""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta
from decimal import Decimal

from deposit_token_sdk.client import Client
from deposit_token_sdk.errors import InvalidInput, Unsupported
from deposit_token_sdk.issuers.protocol import Capability, QuotesNothing
from deposit_token_sdk.models import Mode, NewQuote, Quote, Token
from deposit_token_sdk.money import Money, units_of
from deposit_token_sdk.signing import strict_json


def require_price(client: Client, price: Money, token: str) -> None:
    """Raise Unsupported (QUOTES), before anything is written or sent, where only a bank could say what it comes to.

    Raises InvalidInput (``unknown_token``; ``too_fine`` where the price is no whole number of the token's units).
    """
    if Capability.QUOTES not in client.issuer.capabilities:
        _token_of(client, price, token)


def quote_of(client: Client, asked: NewQuote, now: datetime) -> Quote:
    """The bank's quote; or, where it gives none, the checkout's own as of `now`. Raises what `client.quote` raises."""
    issuer = client.issuer
    if Capability.QUOTES in issuer.capabilities:
        return client.quote(asked)
    token = _token_of(client, asked.price, asked.token)
    life = timedelta(seconds=issuer.quote_life if isinstance(issuer, QuotesNothing) else 0)
    return own_quote(asked, token, issuer.merchant, Mode(issuer.mode), now.replace(microsecond=0) + life)


def own_quote(asked: NewQuote, token: Token, merchant: str, mode: Mode, expires_at: datetime) -> Quote:
    """The price as it stands, until `expires_at`. Pure. Raises InvalidInput (``too_fine``) rather than rounding it."""
    due = units_of(asked.price.amount, token.decimals)
    claims = {
        "reference": asked.reference,
        "merchant": merchant,
        "installation": asked.installation,
        "mode": mode.value,
        "price": {"currency": asked.price.currency, "amount": f"{asked.price.amount:f}"},
        "token": token.code,
        "due": str(due),
        "bearer": asked.bearer.value,
        "expires_at": strict_json.rfc3339(expires_at),
    }
    return Quote(
        id=f"own-{asked.reference}",
        reference=asked.reference,
        merchant=merchant,
        installation=asked.installation,
        mode=mode,
        price=asked.price,
        token=token.code,
        decimals=token.decimals,
        rate=Decimal(1),
        fee=0,
        bearer=asked.bearer,
        due=due,
        net=due,
        expires_at=expires_at,
        digest=hashlib.sha256(strict_json.dumps(claims)).hexdigest(),
    )


def _token_of(client: Client, price: Money, code: str) -> Token:
    issuer = client.issuer.name
    token = next((one for one in client.tokens() if one.code == code), None)
    if token is None:
        raise InvalidInput("unknown_token", f"{issuer} does not take {code!r}.")
    if token.currency != price.currency:
        raise Unsupported(
            issuer,
            Capability.QUOTES,
            f"{issuer} quotes no prices: {code} pays prices in {token.currency}, and this one is in {price.currency}.",
        )
    units_of(price.amount, token.decimals)  # nobody here may round it either
    return token
