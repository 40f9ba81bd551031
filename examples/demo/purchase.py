"""One purchase, as a buyer makes it, told step by step with what each step has shown."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from html import unescape
from typing import Any, TypeVar

import requests
from sqlalchemy import create_engine
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import sessionmaker

from deposit_token_sdk import Attempt, Client, DepositTokenError, SqlStore, Unsupported
from deposit_token_sdk.checkout.sql import prepare_sqlite
from deposit_token_sdk.evidence import authenticate_stored
from deposit_token_sdk.issuers.protocol import Capability
from deposit_token_sdk.models import Confirmation, Proof, Quote
from deposit_token_sdk.money import decimal_of
from deposit_token_sdk.offers.policy import REASONS
from examples.demo.browser import Browser
from examples.demo.processes import StepFailed, Watch
from examples.demo.timeline import Timeline, say

PAID_IN = "SBUSD"
SIGNED = "signed by the bank, recomputed to the unit"
LOCKED = "locked by the bank, recomputed to the unit"
OWN = "written by the shop, since the bank quotes none"
OFFLINE = "verified offline with the stored key"
CHANNEL = "told by the bank over its own channel, which convinced the shop alone"
AT_PAR = "SBEUR"
"""What the basket, priced in euros, is paid in where a bank quotes no prices."""
ORDER = re.compile(r'data-order="([^"]+)"')

T = TypeVar("T")


@contextmanager
def step(name: str) -> Iterator[None]:
    """Say of an error in which step it happened."""
    try:
        yield
    except (DepositTokenError, requests.RequestException, SQLAlchemyError) as error:
        raise StepFailed(f"{name}: {type(error).__name__}: {error}") from error
    except StepFailed as failure:
        raise StepFailed(f"{name}: {failure}") from failure


def required(found: T | None, otherwise: str) -> T:
    """What was found. Raises StepFailed(`otherwise`) where nothing was."""
    if found is None:
        raise StepFailed(otherwise)
    return found


@contextmanager
def books(database: str) -> Iterator[SqlStore]:
    """The checkout's tables in the shop's database, read from outside the shop."""
    engine = create_engine(database)
    prepare_sqlite(engine)
    try:
        yield SqlStore(sessionmaker(engine))
    finally:
        engine.dispose()


def buy(watch: Watch, timeline: Timeline, bank: str, shop: str, store: SqlStore, environ: Mapping[str, str]) -> str:
    """Buy the first thing in the shop and check all that a shop keeper would; returns the order's id.

    Raises StepFailed, naming the step.
    """
    browser = Browser()
    with step("basket and checkout"):
        token = paid_in(environ)
        order_id, page = order(browser, shop, bank, token)
    with step("quote and invoice"):
        attempt = required(next(iter(store.order(order_id).attempts), None), "the shop has no attempt to pay")
        quote = required(attempt.quote, "the bank gave no quote")
        tell_price(timeline, attempt, quote)
    with step("approval"):
        if attempt.pay_url is None:
            browser.submit("/consent")
            timeline.tell("consent", f"the buyer agreed in the shop that it collects {amount(quote.due, quote)}")
        else:
            browser.follow(bank)
            browser.submit("/pay/", follow=False, decision="approve")
            timeline.tell("approval", f"the buyer approved {amount(quote.due, quote)} on the bank's page")
    with step("webhook"):
        delivered = watch.until(lambda: taken(bank, attempt), "no webhook of the payment was taken by the shop")
        timeline.tell("webhook", delivered)
    with step("order paid"):
        watch.until(lambda: browser.json(f"{page}/status")["situation"] == "paid", "the order did not turn paid")
        timeline.tell("order paid", "by the bank's confirmation, in one transaction with the shop's own row")
        say(f"order {order_id} paid")
        browser.open(f"{page}/receipt")
    with step("confirmation"):
        for known in store.evidence(order_id):
            kept = known if known.proof is Proof.CHANNEL else authenticate_stored(known.evidence)
            tell_confirmation(timeline, kept, quote)
        if not store.evidence(order_id):
            raise StepFailed("the shop kept no evidence")
    with step("supply"):
        tell_supply(timeline, environ, quote)
    return order_id


def paid_in(environ: Mapping[str, str]) -> str:
    """The token to pay in: any where the bank prices it, else the one of the price's own currency."""
    with Client.from_env(environ) as client:
        return PAID_IN if Capability.QUOTES in client.issuer.capabilities else AT_PAR


def order(browser: Browser, shop: str, bank: str, token: str = PAID_IN) -> tuple[str, str]:
    """Fill the basket and check out; returns the order's id and the address of its page.

    The buyer is where BUYER_COUNTRY says, by default in Germany. Raises StepFailed, with the reason, where the shop
    does not offer the token there.
    """
    country = os.environ.get("BUYER_COUNTRY") or "DE"
    browser.open(shop)
    browser.submit("/basket")
    browser.open("/checkout")
    browser.submit("/checkout", token=token, country=country)
    refused = re.search(rf'data-refused="{token}" data-reason="([a-z_]+)" data-ground="([^"]+)"', browser.text)
    if refused is not None:
        asked = len(control(bank, "invoices"))
        told = f"{token} is not offered to a buyer in {country} ({refused[1]}): {REASONS[refused[1]]}"
        told += f" [{unescape(refused[2])}]"
        raise StepFailed(f"{told} The bank was asked for {asked or 'no'} invoices.")
    found = required(ORDER.search(browser.text), f"{browser.url} is not the page of an order")
    return found[1], browser.url


def taken(bank: str, attempt: Attempt) -> str | None:
    """How the shop took the webhook of the settled payment, by the bank's own record; None so far."""
    messages = control(bank, "webhooks", invoice=attempt.reference)
    for message in messages:
        if message["type"] == "invoice.settled" and message["tries"]:
            last = message["tries"][-1]
            if last["status"] == 200:
                how = "signature verified" if last["signature"] else "the payment read from the bank again"
                return f"{message['type']} {message['id']}: {how}, answered 200 ({last['answer'].strip()})"
    return None


def control(bank: str, verb: str, **arguments: object) -> Any:
    """Ask the sandbox bank's control."""
    with requests.Session() as session:
        session.trust_env = False
        answer = session.post(f"{bank}/control/{verb}", json=arguments, timeout=10)
        answer.raise_for_status()
        return answer.json()


def tell_price(timeline: Timeline, attempt: Attempt, quote: Quote) -> None:
    """What is to be paid, and under which invoice."""
    bearer = "the buyer pays it" if quote.bearer == "DEBT" else "the shop pays it"
    timeline.tell(
        "quote",
        f"{quote.price} at {quote.rate} is {amount(quote.due, quote)}, fee {amount(quote.fee, quote)} ({bearer}): "
        f"{SIGNED if quote.statement else OWN if quote.token == AT_PAR else LOCKED}",
    )
    invoice = required(attempt.invoice, "the bank gave no invoice")
    timeline.tell("invoice", f"{invoice}, reference {attempt.reference}")


def tell_confirmation(timeline: Timeline, confirmation: Confirmation, quote: Quote) -> None:
    """What the bank has signed, verified again without asking anybody."""
    timeline.tell(
        "confirmation",
        f"{confirmation.kind} of {amount(confirmation.units, quote)} by {confirmation.issuer}: "
        f"{CHANNEL if confirmation.proof is Proof.CHANNEL else f'{confirmation.proof} {OFFLINE}'}",
    )


def tell_supply(timeline: Timeline, environ: Mapping[str, str], quote: Quote) -> None:
    """That the bank holds as much as it has issued, by its own signed word."""
    try:
        with Client.from_env(environ) as client:
            backing = client.backing(PAID_IN)
    except Unsupported as lacking:
        timeline.tell("supply", f"{lacking.issuer} attests none by this API")
        return
    timeline.tell(
        "supply",
        f"{amount(backing.circulation, quote)} in circulation equal deposits held, counted "
        f"{backing.age.total_seconds():.0f} s ago: {backing.issuer}'s own signed word, and nobody else's",
    )


def amount(units: int, quote: Quote) -> str:
    """Token units as people read them."""
    return f"{decimal_of(units, quote.decimals):,f} {quote.token}"
