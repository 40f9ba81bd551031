"""The routes of the reference API, as a table: method, path, status, and the decision that answers it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from attrs import frozen

from deposit_token_sdk.sandbox import invoices, movements, quotes, refunds, statements, webhook_tests
from deposit_token_sdk.sandbox.desk import Desk
from deposit_token_sdk.sandbox.problems import Refused
from deposit_token_sdk.signing import strict_json


@frozen
class Asked:
    """What a request asks: the variables of its path, its query, its body."""

    path: Mapping[str, str]
    query: Mapping[str, str]
    body: dict[str, Any]

    @property
    def about(self) -> tuple[str, ...]:
        """The ids and references named, for faults that lie in wait for one of them."""
        named = [self.path.get("id"), self.query.get("reference"), self.query.get("invoice")]
        named += [self.body.get("reference"), self.body.get("invoice")]
        return tuple(name for name in named if isinstance(name, str))

    def number(self, name: str) -> int | None:
        """A whole number of the query, or None where it is absent. Raises Refused (``malformed``)."""
        text = self.query.get(name)
        if text is None:
            return None
        if not (text.isascii() and text.isdigit() and len(text) <= 9):
            raise Refused("malformed", f"{name} is a whole number.")
        return int(text)


Decision: TypeAlias = Callable[[Desk, str, Asked], dict[str, Any]]


@frozen
class Errand:
    """A decision that calls the shop: `begin` and `end` in a transaction each, `go` between them with none open."""

    begin: Callable[[Desk, str], Any]
    go: Callable[[Any], Any]
    end: Callable[[Desk, Any, Any], dict[str, Any]]


@frozen
class Route:
    """One operation, answered by a decision or an errand. `path` is in Flask's form."""

    name: str
    method: str
    path: str
    status: int
    decide: Decision | Errand

    @property
    def template(self) -> str:
        """Method and path template, as ``POST /invoices/{id}/cancel``."""
        return f"{self.method} {self.path.replace('<', '{').replace('>', '}')}"


def _invoice(desk: Desk, merchant: str, asked: Asked) -> dict[str, Any]:
    return invoices.document(desk, desk.invoice(asked.path["id"], merchant))


def _invoices(desk: Desk, merchant: str, asked: Asked) -> dict[str, Any]:
    reference = asked.query.get("reference")
    if reference is not None:
        return {"invoices": invoices.find(desk, merchant, reference), "next": None}
    limit = asked.number("limit")
    after = asked.number("cursor") or 0
    shown, following = invoices.page(
        desk, merchant, after, 100 if limit is None else limit, made_on=asked.query.get("date")
    )
    return {"invoices": shown, "next": following}


def _cancel(desk: Desk, merchant: str, asked: Asked) -> dict[str, Any]:
    return invoices.cancel(desk, desk.invoice(asked.path["id"], merchant))


def _release(desk: Desk, merchant: str, asked: Asked) -> dict[str, Any]:
    return movements.release(desk, desk.invoice(asked.path["id"], merchant))


def _capture(desk: Desk, merchant: str, asked: Asked) -> dict[str, Any]:
    order = strict_json.text(asked.body, "order")
    return movements.capture(desk, desk.invoice(asked.path["id"], merchant), order)


def _statements(desk: Desk, merchant: str, asked: Asked) -> dict[str, Any]:
    return {"statements": statements.about(desk, desk.invoice(asked.path["id"], merchant))}


def _refund(desk: Desk, merchant: str, asked: Asked) -> dict[str, Any]:
    return refunds.document(desk, desk.refund(asked.path["id"], merchant))


def _refunds(desk: Desk, merchant: str, asked: Asked) -> dict[str, Any]:
    reference, invoice = asked.query.get("reference"), asked.query.get("invoice")
    if reference is None and invoice is None:
        raise Refused("malformed", "Ask for refunds by reference or by invoice.")
    return {"refunds": refunds.find(desk, merchant, reference=reference, invoice=invoice)}


def _backing(desk: Desk, merchant: str, asked: Asked) -> dict[str, Any]:
    return {"statement": statements.backing(desk, merchant, asked.path["code"])}


def _ledger(desk: Desk, merchant: str, asked: Asked) -> dict[str, Any]:
    limit = asked.number("limit")
    return statements.day(desk, merchant, asked.path["date"], asked.number("cursor") or 0, limit)


ROUTES: tuple[Route, ...] = (
    Route("createQuote", "POST", "/quotes", 201, lambda desk, who, asked: quotes.create(desk, who, asked.body)),
    Route("createInvoice", "POST", "/invoices", 201, lambda desk, who, asked: invoices.create(desk, who, asked.body)),
    Route("listInvoices", "GET", "/invoices", 200, _invoices),
    Route("getInvoice", "GET", "/invoices/<id>", 200, _invoice),
    Route("cancelInvoice", "POST", "/invoices/<id>/cancel", 200, _cancel),
    Route("releaseInvoice", "POST", "/invoices/<id>/release", 200, _release),
    Route("captureInvoice", "POST", "/invoices/<id>/capture", 200, _capture),
    Route("listStatements", "GET", "/invoices/<id>/statements", 200, _statements),
    Route("createRefund", "POST", "/refunds", 201, lambda desk, who, asked: refunds.create(desk, who, asked.body)),
    Route("listRefunds", "GET", "/refunds", 200, _refunds),
    Route("getRefund", "GET", "/refunds/<id>", 200, _refund),
    Route("listTokens", "GET", "/tokens", 200, lambda desk, _who, _asked: {"tokens": statements.tokens(desk)}),
    Route("getBacking", "GET", "/tokens/<code>/backing", 200, _backing),
    Route("getLedger", "GET", "/ledger/<date>", 200, _ledger),
    Route(
        "testWebhook",
        "POST",
        "/webhook-tests",
        201,
        Errand(webhook_tests.begin, webhook_tests.go, webhook_tests.end),
    ),
)
"""Every operation of the reference API, named as in ``openapi.yaml``."""
