"""One formula for what a buyer pays, what a merchant gets and what can be sent back, exact to the token unit.

``gross = ceil(price x rate x 10^decimals)``, rounded up once, at the end. With the bank's fee in units: bearer
DEBT (the buyer pays it) has due = gross + fee and net = gross; bearer CRED has due = gross and net = gross - fee.
The bank computes the same with code of its own; a difference of one unit is refused here.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

from attrs import frozen

from deposit_token_sdk.errors import InvalidType, NotAllowed, NotOurs, PriceRefused
from deposit_token_sdk.lifecycle import RefundStage
from deposit_token_sdk.models import Bearer, NewQuote, Quote
from deposit_token_sdk.money import EXACT, Money


def gross_units(price: Decimal, rate: Decimal, decimals: int) -> int:
    """Token units for a price, rounded up once, at the end."""
    return int(_exact(price, rate, decimals).to_integral_value(ROUND_CEILING))


def _exact(amount: Decimal, rate: Decimal, decimals: int) -> Decimal:
    return EXACT.multiply(amount, rate).scaleb(decimals, context=EXACT)


def check(quote: Quote, asked: NewQuote, max_fee: Decimal) -> None:
    """Refuse a quote that is not the one asked for, or that does not add up to the unit.

    `max_fee` is the shop's ceiling as a share of gross. Raises NotOurs (``quote_for_another_request``) and
    PriceRefused (``price_not_positive``, ``rate_not_positive``, ``fee_negative``, ``fee_above_ceiling``,
    ``due_differs``, ``net_differs``, ``nets_nothing``).
    """
    for name in ("reference", "installation", "price", "token", "bearer"):
        told, wanted = getattr(quote, name), getattr(asked, name)
        if told != wanted:
            raise NotOurs("quote_for_another_request", f"The quote's {name} is {told}, but {wanted} was asked for.")
    if quote.price.amount <= 0:
        raise PriceRefused("price_not_positive", f"A price of {quote.price} cannot be paid.")
    if quote.rate <= 0:
        raise PriceRefused("rate_not_positive", f"A rate of {quote.rate} is none.")
    gross = gross_units(quote.price.amount, quote.rate, quote.decimals)
    if quote.fee < 0:
        raise PriceRefused("fee_negative", f"A fee of {quote.fee} units is below zero.")
    if quote.fee > EXACT.multiply(max_fee, Decimal(gross)):
        raise PriceRefused(
            "fee_above_ceiling",
            f"The bank's fee of {quote.fee} units is above {max_fee} of {gross}: "
            f"raise DEPOSIT_TOKEN_MAX_FEE if that is meant.",
        )
    due, net = (gross + quote.fee, gross) if quote.bearer is Bearer.DEBT else (gross, gross - quote.fee)
    if quote.due != due:
        raise PriceRefused("due_differs", f"The quote says {quote.due} units are due; its own figures make {due}.")
    if quote.net != net:
        raise PriceRefused("net_differs", f"The quote says {quote.net} units net; its own figures make {net}.")
    if net <= 0:
        raise PriceRefused("nets_nothing", f"Of {due} units {net} would reach the merchant.")


@frozen
class RefundPart:
    """An earlier refund of the same invoice: its units, its share of the price if asked in it, its stage.

    `beside` says that it sent back money that came beside the price: in token units, and no part of the price.
    """

    units: int
    price: Money | None
    stage: RefundStage
    beside: bool = False


def refundable(quote: Quote, received: int, refunds: Iterable[RefundPart]) -> int:
    """Token units that may still be sent back: what came, less the fee the bank keeps, less refunds that count."""
    return _refundable_at_first(quote, received) - sum(part.units for part in refunds if part.stage.counts)


def _refundable_at_first(quote: Quote, received: int) -> int:
    return received - (quote.fee if quote.bearer is Bearer.DEBT else 0)


def refund_units(
    asked: int | Money, quote: Quote, received: int, refunds: Iterable[RefundPart], *, beside: bool = False
) -> int:
    """Token units of the refund asked for, in token units or in the price's currency.

    A part of the price is rounded down; the refund that completes the price takes the exact rest. `beside`: this one
    sends back money that came beside the price, so it may stand beside parts of it. Raises NotAllowed
    (``refund_not_positive``, ``refund_currency``, ``refund_mixed``, ``refund_exceeds``) and InvalidType
    (``amount_type``); nothing is changed then.
    """
    if isinstance(asked, bool) or not isinstance(asked, (int, Money)):
        raise InvalidType(
            "amount_type", f"A refund is asked in token units (int) or Money, not {type(asked).__name__}."
        )
    counting = [part for part in refunds if part.stage.counts]
    parts = [part for part in counting if not part.beside]
    if not beside and any((part.price is None) is isinstance(asked, Money) for part in parts):
        raise NotAllowed(
            "refund_mixed", "Refunds of one invoice are asked in token units or in the price's currency, never in both."
        )
    units = _units_of_price(asked, quote, received, parts) if isinstance(asked, Money) else asked
    left = refundable(quote, received, counting)
    if units > left:
        raise NotAllowed("refund_exceeds", f"{units} units were asked for, but only {left} can be refunded.")
    if units <= 0:
        raise NotAllowed("refund_not_positive", f"A refund of {asked} sends nothing back.")
    return units


def _units_of_price(asked: Money, quote: Quote, received: int, counting: list[RefundPart]) -> int:
    if asked.currency != quote.price.currency:
        raise NotAllowed("refund_currency", f"The price was in {quote.price.currency}, not in {asked.currency}.")
    if asked.amount <= 0:
        raise NotAllowed("refund_not_positive", f"A refund of {asked} sends nothing back.")
    earlier = sum((part.price for part in counting if part.price), Money(0, asked.currency))
    if earlier + asked > quote.price:
        raise NotAllowed(
            "refund_exceeds", f"{asked} were asked for, but only {quote.price - earlier} of the price are left."
        )
    if earlier + asked == quote.price:
        gross = gross_units(quote.price.amount, quote.rate, quote.decimals)
        whole = min(gross, _refundable_at_first(quote, received))
        return whole - sum(part.units for part in counting)
    return int(_exact(asked.amount, quote.rate, quote.decimals).to_integral_value(ROUND_FLOOR))
