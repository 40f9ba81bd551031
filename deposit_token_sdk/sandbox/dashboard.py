"""The developer's dashboard: the bank's books and outbox to look into, every verb of the control as a form.

It shows and passes on; what happens, happens in `control`, so that a button and ``POST /control/<verb>`` are one.
Its forms carry a token bound to the browser, and a page of another origin is refused.
"""

from __future__ import annotations

import inspect
import json
import re
import secrets
import shlex
import threading
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Final

from attrs import define, field, frozen
from flask import Flask, Response, make_response, redirect, render_template, request

from deposit_token_sdk.errors import DepositTokenError
from deposit_token_sdk.sandbox import control as control_room
from deposit_token_sdk.sandbox import page, showing
from deposit_token_sdk.sandbox.bank import Bank
from deposit_token_sdk.sandbox.control import VERBS, Control
from deposit_token_sdk.sandbox.faults import KINDS
from deposit_token_sdk.sandbox.problems import Refused
from deposit_token_sdk.sandbox.remote import refuse_other_origins

GROUPS: Final[Mapping[str, tuple[str, ...]]] = {
    "Time": ("advance", "time"),
    "Prices": ("set_rate",),
    "Payments": ("pay", "hold", "settle", "decline", "return_payment", "fund"),
    "Refunds": ("hold_refunds", "finish_refund", "fail_refund"),
    "Webhooks": (
        "ping",
        "send_test_event",
        "set_webhook_url",
        "drop_webhooks",
        "repeat_webhooks",
        "resend",
        "webhooks",
    ),
    "Keys": ("keys", "rotate_key", "retire_key", "revoke_key", "rotate_webhook_key", "retire_webhook_keys"),
    "Merchants": ("create_merchant",),
    "Faults": ("fault", "clear_faults", "faults", "fault_counts"),
    "The bank’s books": ("invoice", "invoices", "ledger", "balances", "audit"),
}
"""Every verb, under the heading it has on the page."""

_PURPOSE = "dashboard"
_ARGUMENT = "with."
_REMEMBERED = 50
_WITHIN = re.compile(r"/dashboard(/[a-z]+){0,1}(/[A-Za-z0-9_]+){0,1}", re.ASCII)


@frozen
class Done:
    """What became of a verb: shown once the browser has been sent back."""

    verb: str
    succeeded: bool
    outcome: str
    call: str


@define
class Dashboard:
    """The dashboard of one bank."""

    bank: Bank
    control: Control
    _done: OrderedDict[str, Done] = field(factory=OrderedDict, init=False)
    _lock: threading.Lock = field(factory=threading.Lock, init=False)

    def mount(self, app: Flask) -> None:
        """Add the dashboard's routes."""
        app.add_url_rule("/dashboard", "dashboard", self._invoices)
        app.add_url_rule("/dashboard/invoices/<invoice>", "dashboard_invoice", self._invoice)
        app.add_url_rule("/dashboard/events", "dashboard_events", self._events)
        app.add_url_rule("/dashboard/ledger", "dashboard_ledger", self._ledger)
        app.add_url_rule("/dashboard/faults", "dashboard_faults", self._faults)
        app.add_url_rule("/dashboard/control", "dashboard_control", self._controls)
        app.add_url_rule("/dashboard/do", "dashboard_do", self._do, methods=["POST"])

    def _invoices(self) -> Response:
        with self.bank.desk() as desk:
            facts = showing.invoices(desk, _before())
        return self._page("board_invoices.html", **facts)

    def _invoice(self, invoice: str) -> Response:
        try:
            with self.bank.desk() as desk:
                facts = showing.invoice(desk, invoice)
        except Refused as refused:
            return self._page("board_missing.html", 404, what=refused.detail)
        return self._page("board_invoice.html", **facts)

    def _events(self) -> Response:
        with self.bank.desk() as desk:
            facts = showing.events(desk, _before())
        return self._page("board_events.html", **facts)

    def _ledger(self) -> Response:
        with self.bank.desk() as desk:
            facts = showing.ledger(desk, _before())
        return self._page("board_ledger.html", **facts)

    def _faults(self) -> Response:
        about = request.args.get("invoice", "")
        return self._page("board_faults.html", kinds=KINDS, about=about, routes=showing.routes())

    def _controls(self) -> Response:
        with self.bank.desk() as desk:
            choices = showing.choices(desk)
        described = {each["verb"]: each["does"] for each in control_room.described()}
        forms = {verb: _fields(verb, choices) for verb in VERBS}
        return self._page("board_control.html", groups=GROUPS, described=described, forms=forms)

    def _page(self, template: str, status: int = 200, **facts: Any) -> Response:
        cookie = page.browser()
        common = {
            "here": request.path,
            "form_token": page.form_token(self.bank.page_secret, cookie, _PURPOSE),
            "done": self._done.get(request.args.get("done", "")),
            "business": page.plainly(self.bank.clock.now()),
            "ahead": self.bank.clock.offset.total_seconds(),
            "in_force": self.control.faults(),
            "house": self.bank.house,
        }
        answer = page.guarded(make_response(render_template(template, **common, **facts), status))
        page.remember(answer, cookie, "/dashboard")
        return answer

    def _do(self) -> Response:
        """One verb, from a form: done, kept for showing, and back to where the form stood."""
        try:
            refuse_other_origins()
        except Refused as refused:
            return self._page("board_missing.html", refused.status, what=refused.detail)
        if not page.token_fits(self.bank.page_secret, _PURPOSE):
            stale = "This page was open for too long, or in another browser. Please go back and load it again."
            return self._page("board_missing.html", 403, what=stale)
        verb = request.form.get("verb", "")
        given = {
            name.removeprefix(_ARGUMENT): value for name, value in request.form.items() if name.startswith(_ARGUMENT)
        }
        number = self._keep(self._called(verb, given))
        return page.guarded(make_response(redirect(f"{_back()}?done={number}", 303)))

    def _called(self, verb: str, given: Mapping[str, str]) -> Done:
        arguments: dict[str, Any] = dict(given)
        try:
            arguments = _arguments(verb, given)
            outcome: object = control_room.call(self.control, verb, arguments)
        except (Refused, DepositTokenError) as refused:
            detail = refused.detail if isinstance(refused, Refused) else str(refused)
            return Done(verb, False, detail, _call(verb, arguments))
        return Done(verb, True, json.dumps(outcome, ensure_ascii=False, indent=2), _call(verb, arguments))

    def _keep(self, done: Done) -> str:
        number = secrets.token_urlsafe(9)
        with self._lock:
            self._done[number] = done
            while len(self._done) > _REMEMBERED:
                self._done.popitem(last=False)
        return number


def _back() -> str:
    """The page of the dashboard that the form stood on."""
    back = request.form.get("back", "")
    return back if _WITHIN.fullmatch(back) else "/dashboard"


def _before() -> int | None:
    text = request.args.get("before", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 12 else None


def _call(verb: str, arguments: Mapping[str, Any]) -> str:
    """The same thing as a call of the control API."""
    body = shlex.quote(json.dumps(arguments, ensure_ascii=False))
    address = shlex.quote(f"http://{request.host}/control/{verb}")
    return f"curl -X POST -H 'content-type: application/json' -d {body} {address}"


def _parameters(verb: str) -> dict[str, tuple[list[str], Any]]:
    """The arguments of a verb: the kinds each may be of, and its default."""
    found = inspect.signature(VERBS[verb]).parameters.values()
    return {each.name: (str(each.annotation).split(" | "), each.default) for each in found if each.name != "self"}


def _arguments(verb: str, given: Mapping[str, str]) -> dict[str, Any]:
    """What a form gave, as the verb's arguments. Raises Refused (``malformed``, ``not_found``)."""
    if verb not in VERBS:
        raise Refused("not_found", f"There is no verb {verb[:60]!r}.")
    known = _parameters(verb)
    read = {name: _read(text.strip(), *known.get(name, (["str"], ""))) for name, text in given.items()}
    return {name: value for name, value in read.items() if value is not _LEFT_OUT}


_LEFT_OUT: Final = object()


def _read(text: str, kinds: list[str], default: Any) -> object:
    if not text and "None" in kinds:
        return None
    if not text and default is not inspect.Parameter.empty:
        return _LEFT_OUT
    if "str" in kinds:
        return text
    try:
        return int(text) if "int" in kinds else float(text)  # seconds and shares; units come as text
    except ValueError:
        raise Refused("malformed", f"{text[:60]!r} is no number.") from None


def _fields(verb: str, choices: Mapping[str, list[str]]) -> list[dict[str, Any]]:
    """The fields of a verb's form."""
    return [
        {
            "name": name,
            "required": default is inspect.Parameter.empty,
            "value": "" if default in (None, inspect.Parameter.empty) else default,
            "numeric": not {"str"} & set(kinds),
            "blank": "None" in kinds,
            "choices": choices.get(name, []),
        }
        for name, (kinds, default) in _parameters(verb).items()
    ]
