"""``deposit-token doctor``: is this shop set up so that payments arrive? One line a check, and what to do.

It looks at the settings, the bank, both clocks, the keys, and with ``--checkout`` at the shop's database; then it has
the bank send a signed test event to the shop's public address and says what answered there. It changes nothing.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Callable, Generator, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import click
from attrs import asdict, define, field

from deposit_token_sdk.cli.findings import Finding, State, fail, ok, show, skip, summary
from deposit_token_sdk.cli.loading import VARIABLE, Loaded, checkout_of, checkout_option
from deposit_token_sdk.errors import BankRefused, ConfigurationError, DepositTokenError

if TYPE_CHECKING:
    from deposit_token_sdk.client import Carrier, Client
    from deposit_token_sdk.exchange import NoAnswer, Request, Response
    from deposit_token_sdk.settings import Settings

_WIDEST = 110


@click.command("doctor")
@checkout_option
@click.option("--no-webhook-test", is_flag=True, help="Have no test event sent to the shop's webhook address.")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
@click.pass_context
def command(context: click.Context, spec: str | None, no_webhook_test: bool, as_json: bool) -> None:
    """Check the settings, the bank, clocks, keys and the webhook address.

    It works with the DEPOSIT_TOKEN_* variables alone; with --checkout it looks at the shop's database too. Ends with 1
    if anything failed.
    """
    logging.getLogger("deposit_token_sdk").addHandler(logging.NullHandler())  # each finding is told in full below
    found: list[Finding] = []
    width = min(shutil.get_terminal_size().columns, _WIDEST)
    for finding in _looked_at(spec, webhook=not no_webhook_test):
        found.append(finding)
        if not as_json:
            show(finding, width)
    if as_json:
        click.echo(json.dumps({"findings": [asdict(each) for each in found]}, indent=2, ensure_ascii=False))
    else:
        click.echo(f"\n{summary(found)}")
    context.exit(1 if any(each.state is State.FAIL for each in found) else 0)


def _looked_at(spec: str | None, *, webhook: bool) -> Iterator[Finding]:
    """Every finding, as it is made."""
    shop, settings = yield from _given(spec)
    clients = _clients(shop, settings)
    if isinstance(clients, Finding):
        yield clients
        clients = []
    answering = yield from _banks(clients, settings)
    if shop is not None:
        yield from _database(shop)
    elif spec is None:
        yield skip("database", f"Name the shop by --checkout or {VARIABLE}, and its database is looked at too.")
    else:
        yield skip("database", "Not looked at: the shop cannot be loaded.")
    for client in clients if webhook else ():
        if client in answering:
            yield _webhook(client, shop)
        else:
            yield skip("webhook", f"No test event was asked for: see {client.issuer.name} above.")


def _given(spec: str | None) -> Generator[Finding, None, tuple[Loaded | None, Settings | None]]:
    """The shop and the settings, as far as there are any that can be used."""
    settings = None
    for each in _settings(spec):
        if isinstance(each, Finding):
            yield each
        else:
            settings = each
    if spec is None:
        return None, settings
    try:
        return checkout_of(spec), settings
    except click.UsageError as error:
        yield fail("shop", error.message, "Mend what failed above first, if anything did; the rest goes without.")
        return None, settings


def _banks(clients: list[Client], settings: Settings | None) -> Generator[Finding, None, list[Client]]:
    """Every bank is looked at; those that answer us are returned."""
    if not clients:
        yield skip("bank", "Not asked: its settings come first.")
    answering = []
    for client in clients:
        looked = list(_bank(client, settings))
        yield from looked
        if not any(each.state is State.FAIL and each.name == "bank" for each in looked):
            answering.append(client)
    return answering


def _settings(spec: str | None) -> Iterator[Finding | Settings]:
    from deposit_token_sdk.cli import checks  # noqa: PLC0415 - not for --help
    from deposit_token_sdk.settings import PREFIX, Settings  # noqa: PLC0415 - loaded when it is used

    named = [name for name in os.environ if name.startswith(PREFIX) and name != VARIABLE]
    if not named:
        if spec is None:
            yield checks.no_settings()
        else:
            yield ok("settings", f"None in the environment: {spec} brings its own.")
        return
    try:
        given = Settings.from_env(os.environ)
    except ConfigurationError as error:
        yield checks.broken_settings(error)
        return
    yield given
    yield from checks.settings(given)
    path = os.environ.get(f"{PREFIX}SIGNING_KEY_FILE", "").strip()
    if path:
        stat = Path(path).stat()
        yield from checks.signing_key(given, path, _time(stat.st_mtime), stat.st_mode, datetime.now(UTC))
    if given.jwks_file:
        yield checks.keys_file(given.jwks_file, _time(Path(given.jwks_file).stat().st_mtime), datetime.now(UTC))


def _time(stamp: float) -> datetime:
    return datetime.fromtimestamp(stamp, UTC)


def _clients(shop: Loaded | None, settings: Settings | None) -> list[Client] | Finding:
    """The shop's own clients, or the one that the settings describe."""
    from deposit_token_sdk.client import Client  # noqa: PLC0415 - loaded when it is used

    if shop is not None:
        return list(shop.checkout._clients.values())
    if settings is None:
        return []
    try:
        return [Client.from_env(os.environ)]
    except ConfigurationError as error:
        return fail("settings", str(error), f"docs/settings.md says what is due ({error.reason}).")


@define
class _Heard:
    """A transport that keeps what was answered: the time that an answer tells, and the bank's keys as they came."""

    transport: Carrier
    answers: list[Response] = field(factory=list)

    def answer(self, request: Request, deadline: float, began: float | None = None) -> Response | NoAnswer:
        from deposit_token_sdk.exchange import Response  # noqa: PLC0415 - loaded when it is used

        answer = self.transport.answer(request, deadline, began)
        if isinstance(answer, Response):
            self.answers.append(answer)
        return answer

    def close(self) -> None:
        """The transport is its owner's to close."""


def _bank(client: Client, settings: Settings | None) -> Iterator[Finding]:
    """Is the bank there, does it know us, and is it the bank? What its answers say of clocks and keys."""
    from deposit_token_sdk.cli import checks  # noqa: PLC0415 - loaded when it is used
    from deposit_token_sdk.client import Client  # noqa: PLC0415 - loaded when it is used

    issuer = client.issuer
    heard = _Heard(client._transport)  # the client's own, so that its proxies, certificates and limits hold
    try:
        tokens = Client(issuer, transport=heard).tokens()
        listed = ", ".join(token.code for token in tokens)
        yield ok("bank", f"{issuer.name} knows merchant {issuer.merchant}, answers signed, and takes {listed}.")
    except DepositTokenError as error:
        yield checks.unanswered(error)
    api = [each for each in heard.answers if each.request.route != "GET jwks"]
    yield checks.clocks(checks.offset(api[-1].headers, api[-1].at) if api else None)
    yield from _keys(heard, settings, issuer.mode)


def _keys(heard: _Heard, settings: Settings | None, mode: str) -> Iterator[Finding]:
    from deposit_token_sdk.cli import checks  # noqa: PLC0415 - loaded when it is used
    from deposit_token_sdk.signing.keys import KeySet  # noqa: PLC0415 - loaded when it is used

    fetched = [each.body for each in heard.answers if each.request.route == "GET jwks" and each.status == 200]
    if settings is not None and settings.jwks_file:
        fetched.append(Path(settings.jwks_file).read_bytes())
    if not fetched:
        yield skip("keys", "The bank's keys were not fetched.")
        return
    pinned = None if settings is None else settings.jwks_thumbprints
    try:
        keys = KeySet.from_jwks(fetched[-1])
        yield from checks.bank_keys(keys.pinned(pinned) if pinned else keys, pinned, mode, datetime.now(UTC))
    except DepositTokenError as error:
        yield fail("keys", f"The bank's key set cannot be used: {error}", "Tell the bank, or mend the file.")


def _database(shop: Loaded) -> Iterator[Finding]:
    from deposit_token_sdk.cli import checks  # noqa: PLC0415 - loaded when it is used

    def look() -> list[Finding]:
        with shop.open() as checkout:
            made = checkout.store.installation()
            return [
                ok("database", f"The checkout's tables are there; this installation is {made}."),
                *checks.health(checkout.health()),
            ]

    yield from _tried(look)


def _tried(look: Callable[[], list[Finding]]) -> list[Finding]:
    from sqlalchemy.exc import OperationalError, ProgrammingError, SQLAlchemyError  # noqa: PLC0415 - loaded when it is used

    create = "Create the tables: SqlStore.create_schema(), or your migrations. Is it the shop's own database?"
    try:
        return look()
    except DepositTokenError as error:
        return [fail("database", f"{error} ({error.reason})", "docs/database.md has the recipe.")]
    except SQLAlchemyError as error:
        said = (str(error).splitlines() or [""])[0][:300]
        missing = isinstance(error, (OperationalError, ProgrammingError)) and "deposit_token_" in said
        todo = create if missing else "Is the database running, and is its address in the shop's settings right?"
        return [fail("database", f"{type(error).__name__}: {said}", todo)]


def _webhook(client: Client, shop: Loaded | None) -> Finding:
    """Have the bank send its test event, and say what answered."""
    from deposit_token_sdk.cli import webhook_advice  # noqa: PLC0415 - loaded when it is used
    from deposit_token_sdk.issuers.protocol import Capability  # noqa: PLC0415 - loaded when it is used

    name = webhook_advice.NAME
    if Capability.WEBHOOK_TESTS not in client.issuer.capabilities:
        return skip(
            name, f"{client.issuer.name} cannot be asked to send a test event: look at the last webhook instead."
        )
    try:
        tried = client.test_webhook(str(uuid4()))
    except BankRefused as refused:
        if refused.code != "no_webhook_address":
            return fail(name, str(refused), "Ask the bank why it sends no test event.")
        todo = (
            f"Set it at the bank: https://<your shop>/webhooks/{client.issuer.name}\nIn the sandbox:\n"
            f"  deposit-token sandbox --webhook-url http://127.0.0.1:5000/webhooks/{client.issuer.name}"
        )
        return fail(name, "The bank has no webhook address for this shop: it sends nothing.", todo)
    except DepositTokenError as error:
        return skip(name, f"No test event could be asked for: {error} ({error.reason})")
    return webhook_advice.advice(tried, client.issuer.name, heard=_found(shop, client, tried.event))


def _found(shop: Loaded | None, client: Client, event: str) -> bool | None:
    """Whether the event is in the shop's database; None where that cannot be looked up."""
    if shop is None:
        return None

    found: list[Any] = []

    def look() -> list[Finding]:
        with shop.open() as checkout:
            found.append(checkout.store.heard(client.issuer.name, event))
        return []

    return None if _tried(look) else found[0] is not None
