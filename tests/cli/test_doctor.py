"""``deposit-token doctor`` as a stranger meets it: over real banks, shops and databases, whole and broken."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from flask import Flask, Response, redirect
from flask.typing import ResponseReturnValue
from sqlalchemy import create_engine, select
from sqlalchemy.orm import sessionmaker
from werkzeug.serving import make_server

from deposit_token_sdk import Checkout, Client, SqlStore
from deposit_token_sdk.checkout import sql_tables as t
from deposit_token_sdk.checkout.sql import prepare_sqlite
from deposit_token_sdk.cli import doctor
from deposit_token_sdk.cli.loading import Loaded
from deposit_token_sdk.integrations.flask import webhooks
from deposit_token_sdk.signing.standard_webhooks import WebhookSigner
from tests import nursery
from tests.databases import ON_BOTH
from tests.integrations.background import ROOT, Background

SHOP = "tests.integrations.background_shop:checkout"
COMMAND = ("deposit_token_sdk.cli", "doctor")


def process(environ: dict[str, str], *options: str) -> subprocess.CompletedProcess[str]:
    """The command as a process of its own, in which nothing is imported yet."""
    ran = subprocess.run(
        [sys.executable, "-m", *COMMAND, *options],
        cwd=ROOT,
        env=environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "Traceback" not in ran.stderr
    return ran


def run(environ: dict[str, str], *options: str, checkout: Checkout | None = None) -> Result:
    """The command in this process, which is quicker; over this checkout, where one is given."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("DEPOSIT_TOKEN_")]:
            patch.delenv(name)
        for name, value in environ.items():
            patch.setenv(name, value)
        if checkout is not None:
            patch.setattr(doctor, "checkout_of", lambda spec: Loaded(spec, checkout))
            options = (*options, "--checkout", "here")
        ran = CliRunner().invoke(doctor.command, options)
    assert ran.exception is None or isinstance(ran.exception, SystemExit), ran.exception
    return ran


def lines_of(ran: Result | subprocess.CompletedProcess[str], name: str) -> list[str]:
    """The findings of this name, each unfolded and with what to do about it."""
    found: list[str] = []
    mine = False
    for line in ran.stdout.splitlines():
        if line[:1] != " ":
            mine = line[6:].startswith(name)
            found += [line] if mine else []
        elif mine:
            found[-1] += f" {line.strip()}"
    return found


def merchant(work: Background) -> str:
    return work.environ["DEPOSIT_TOKEN_MERCHANT"]


@contextmanager
def serving(work: Background, app: Flask, path: str = "/webhooks/sandbox-bank") -> Iterator[None]:
    """The app at the merchant's webhook address."""
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    work.bank.control.set_webhook_url(f"http://127.0.0.1:{server.port}{path}", merchant=merchant(work))
    try:
        yield
    finally:
        work.bank.control.set_webhook_url(None, merchant=merchant(work))
        server.shutdown()
        thread.join(5)
        server.server_close()


def shop_of(checkout: Checkout) -> Flask:
    app = Flask("shop")
    app.register_blueprint(webhooks(checkout))
    return app


def answering(answer: Callable[[], ResponseReturnValue]) -> Flask:
    app = Flask("another")
    app.add_url_rule("/webhooks/sandbox-bank", "answer", answer, methods=["POST"])
    return app


def test_with_nothing_set_it_names_each_variable_and_a_way_to_try_it() -> None:
    plain = {name: value for name, value in os.environ.items() if not name.startswith("DEPOSIT_TOKEN_")}
    ran = process(plain)
    assert (ran.returncode, ran.stderr) == (1, "")
    for name in ("BANK", "URL", "MERCHANT", "MODE", "SIGNING_KEY_FILE", "SIGNING_KEY_ID", "WEBHOOK_KEYS"):
        assert f"DEPOSIT_TOKEN_{name} " in ran.stdout
    assert "deposit-token sandbox --port 8790" in ran.stdout
    assert ran.stdout.splitlines()[-1] == "1 failed, 2 not looked at"


def test_a_missing_variable_is_named_with_its_meaning(work: Background) -> None:
    environ = {name: value for name, value in work.environ.items() if name != "DEPOSIT_TOKEN_URL"}
    ran = run(environ)
    assert ran.exit_code == 1
    (settings,) = lines_of(ran, "settings")
    assert "DEPOSIT_TOKEN_URL The bank's base address" in settings.replace("  ", " ")


@ON_BOTH
def test_a_shop_in_good_order_passes_and_its_test_event_is_found_in_its_database(work: Background) -> None:
    with serving(work, shop_of(work.checkout)):
        ran = nursery.ran(*COMMAND, "--checkout", SHOP, environ=work.environ)
    assert (ran.returncode, ran.stderr) == (0, ""), ran.stdout
    assert "FAIL" not in ran.stdout
    (webhook,) = lines_of(ran, "webhook")
    assert webhook.startswith("ok")
    assert "the event is in the shop's database" in webhook
    (bank,) = lines_of(ran, "bank")
    assert f"sandbox-bank knows merchant {merchant(work)}, answers signed" in bank
    (clocks,) = lines_of(ran, "clocks")
    assert "agree to within 2 seconds" in clocks
    (own,) = lines_of(ran, "own key")
    assert "less than a day old, for its owner's eyes only" in own


def test_by_the_settings_alone_a_shop_is_known_by_its_answer(work: Background) -> None:
    with serving(work, shop_of(work.checkout)):
        ran = run(work.environ)
    assert ran.exit_code == 0, ran.stdout
    (webhook,) = lines_of(ran, "webhook")
    assert "in this SDK's words" in webhook
    assert lines_of(ran, "database")[0].startswith("skip")


def test_a_shop_without_an_address_at_the_bank_is_told_so(work: Background) -> None:
    ran = run(work.environ)
    assert ran.exit_code == 1
    (webhook,) = lines_of(ran, "webhook")
    assert "The bank has no webhook address for this shop" in webhook
    assert "/webhooks/sandbox-bank" in webhook


def moved() -> ResponseReturnValue:
    return redirect("https://www.shop.example/webhooks/sandbox-bank/", 301)


def forbidden() -> ResponseReturnValue:
    return "CSRF verification failed", 403


def a_page() -> ResponseReturnValue:
    return "<!doctype html><title>Welcome</title>"


def a_login_page() -> ResponseReturnValue:
    return "<!doctype html><form>Log in <input type=password></form>"


def a_redirect_to_login() -> ResponseReturnValue:
    return redirect("/accounts/login/?next=/webhooks", 302)


def another_200() -> ResponseReturnValue:
    return Response("OK", content_type="text/plain")


ANSWERS: list[tuple[Callable[[], ResponseReturnValue], str, str]] = [
    (moved, "FAIL", "Set the final address at the bank: https://www.shop.example/webhooks/sandbox-bank/"),
    (forbidden, "FAIL", "Exempt the path from CSRF protection"),
    (a_page, "FAIL", "The bank takes that for delivered"),
    (a_login_page, "FAIL", "with a login page"),
    (a_redirect_to_login, "FAIL", "a redirect to the login page"),
    (another_200, "warn", "not in this SDK's words"),
]


@pytest.mark.parametrize(("answer", "state", "said"), ANSWERS, ids=[each[0].__name__ for each in ANSWERS])
def test_what_answers_in_the_shops_place_is_named_with_what_to_do(
    work: Background, answer: Callable[[], ResponseReturnValue], state: str, said: str
) -> None:
    with serving(work, answering(answer)):
        ran = run(work.environ)
    (webhook,) = lines_of(ran, "webhook")
    assert webhook.startswith(state)
    assert said in webhook
    assert ran.exit_code == (1 if state == "FAIL" else 0)


def test_a_200_of_something_else_is_a_failure_once_the_database_can_be_looked_at(work: Background) -> None:
    with serving(work, answering(another_200)):
        ran = run(work.environ, checkout=work.checkout)
    (webhook,) = lines_of(ran, "webhook")
    assert webhook.startswith("FAIL")
    assert "not in this shop's database" in webhook


def test_a_copy_of_the_shop_with_another_database_is_found_out(work: Background, tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path / 'copy.sqlite'}")
    prepare_sqlite(engine)
    store = SqlStore(sessionmaker(engine))
    store.create_schema()
    with Client.from_env(work.environ) as client, serving(work, shop_of(Checkout(client, store))):
        ran = run(work.environ, checkout=work.checkout)
    engine.dispose()
    (webhook,) = lines_of(ran, "webhook")
    assert webhook.startswith("FAIL")
    assert "Another copy of the shop answers" in webhook


def test_a_shop_that_has_another_key_for_webhooks_is_told_which_to_set(work: Background) -> None:
    signer, _ = WebhookSigner.generate()
    environ = {**work.environ, "DEPOSIT_TOKEN_WEBHOOK_KEYS": signer.public_text}
    with (
        Client.from_env(environ) as client,
        serving(work, shop_of(Checkout(client, work.checkout.store))),
    ):
        ran = run(work.environ)
    (webhook,) = lines_of(ran, "webhook")
    assert "the shop refused the event (signature_mismatch)" in webhook
    assert "Set DEPOSIT_TOKEN_WEBHOOK_KEYS to the key that the bank shows" in webhook


def test_an_address_of_another_bank_is_told_the_right_one(work: Background) -> None:
    with serving(work, shop_of(work.checkout), path="/webhooks/other-bank"):
        ran = run(work.environ)
    (webhook,) = lines_of(ran, "webhook")
    assert "has no bank of that name" in webhook
    assert "end in /sandbox-bank" in webhook


def test_a_key_that_the_bank_does_not_know_is_told_from_a_bank_that_is_away(work: Background) -> None:
    unknown = run({**work.environ, "DEPOSIT_TOKEN_SIGNING_KEY_ID": "nobody-1"})
    (bank,) = lines_of(unknown, "bank")
    assert bank.startswith("FAIL")
    assert "has the bank its public half" in bank
    assert lines_of(unknown, "webhook")[0].startswith("skip")
    away = run({**work.environ, "DEPOSIT_TOKEN_URL": "http://127.0.0.1:9"})
    (bank,) = lines_of(away, "bank")
    assert "Is DEPOSIT_TOKEN_URL right" in bank
    assert (unknown.exit_code, away.exit_code) == (1, 1)


def test_a_page_that_answers_in_the_banks_place_is_not_taken_for_the_bank(work: Background) -> None:
    app = Flask("proxy")
    app.add_url_rule("/tokens", "page", lambda: "<html>a proxy's page")
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    ran = run({**work.environ, "DEPOSIT_TOKEN_URL": f"http://127.0.0.1:{server.port}"})
    server.shutdown()
    thread.join(5)
    server.server_close()
    (bank,) = lines_of(ran, "bank")
    assert "answer_unsigned" in bank
    assert "Something answers in the bank's place" in bank


def test_a_private_key_that_others_can_read_fails(work: Background, tmp_path: Path) -> None:
    copy = tmp_path / "key.pem"
    copy.write_bytes(Path(work.environ["DEPOSIT_TOKEN_SIGNING_KEY_FILE"]).read_bytes())
    copy.chmod(0o644)
    ran = run({**work.environ, "DEPOSIT_TOKEN_SIGNING_KEY_FILE": str(copy)}, "--no-webhook-test")
    assert ran.exit_code == 1
    (own,) = lines_of(ran, "own key")
    assert f"chmod 600 {copy}" in own


def test_a_key_set_that_the_pinned_thumbprints_leave_empty_fails(work: Background) -> None:
    ran = run({**work.environ, "DEPOSIT_TOKEN_JWKS_THUMBPRINTS": "x" * 43}, "--no-webhook-test")
    assert ran.exit_code == 1
    assert any("no current key for statement and answers" in line for line in lines_of(ran, "keys"))


def test_a_database_without_the_tables_is_told_how_to_make_them(work: Background, tmp_path: Path) -> None:
    environ = {**work.environ, "DATABASE": f"sqlite:///{tmp_path / 'empty.sqlite'}"}
    shop = tmp_path / "emptyshop.py"
    shop.write_text(
        "import os\nfrom sqlalchemy import create_engine\nfrom sqlalchemy.orm import sessionmaker\n"
        "from deposit_token_sdk import Checkout, Client, SqlStore\n"
        "from deposit_token_sdk.checkout.sql import prepare_sqlite\n"
        "engine = create_engine(os.environ['DATABASE'])\nprepare_sqlite(engine)\n"
        "checkout = Checkout(Client.from_env(), SqlStore(sessionmaker(engine)))\n"
    )
    environ["PYTHONPATH"] = os.pathsep.join([str(tmp_path), str(ROOT)])
    ran = process(environ, "--checkout", "emptyshop:checkout", "--no-webhook-test")
    assert ran.returncode == 1
    (database,) = lines_of(ran, "database")
    assert "SqlStore.create_schema()" in database


def test_the_shops_own_troubles_are_listed_with_what_to_do(work: Background) -> None:
    work.put(1)
    with work.checkout.store.begin() as tx:
        (message,) = tx.session.execute(select(t.outgoing.c.key)).scalars()
        tx.bury(message, datetime.now(UTC), "no mail server answers")
    ran = run(work.environ, "--no-webhook-test", checkout=work.checkout)
    assert ran.exit_code == 1
    (health,) = lines_of(ran, "health")
    assert health.startswith("FAIL")
    assert "deposit-token outbox" in health
    assert any("No webhook of sandbox-bank has ever arrived" in line for line in lines_of(ran, "events"))


def test_a_review_that_waits_for_a_person_is_no_failure(work: Background) -> None:
    attempt = work.pay_unheard("A-1")
    work.checkout.refresh("A-1")
    work.bank.control.pay(attempt.reference)
    work.checkout.reconcile()
    ran = run(work.environ, "--no-webhook-test", checkout=work.checkout)
    (health,) = lines_of(ran, "health")
    assert health.startswith("warn")
    assert "deposit-token review" in health


def test_a_shop_that_cannot_be_loaded_is_a_finding_beside_the_settings_that_it_lacks(work: Background) -> None:
    environ = {name: value for name, value in work.environ.items() if name != "DEPOSIT_TOKEN_MERCHANT"}
    ran = nursery.ran(*COMMAND, "--checkout", SHOP, environ=environ)
    assert ran.returncode == 1
    assert "DEPOSIT_TOKEN_MERCHANT" in lines_of(ran, "settings")[0]
    assert lines_of(ran, "shop")[0].startswith("FAIL")
    nowhere = run(work.environ, "--checkout", "nowhere:checkout", "--no-webhook-test")
    assert nowhere.exit_code == 1
    assert "There is no module 'nowhere'" in lines_of(nowhere, "shop")[0]
    assert lines_of(nowhere, "bank")[0].startswith("ok")


def test_the_findings_come_as_json_too(work: Background) -> None:
    ran = run(work.environ, "--json")
    found = json.loads(ran.stdout)["findings"]
    assert [each["state"] for each in found if each["name"] == "webhook"] == ["FAIL"]
    assert all(set(each) == {"state", "name", "said", "todo"} for each in found)
    assert all(each["todo"] for each in found if each["state"] in ("warn", "FAIL"))


def test_no_event_is_sent_where_none_is_wanted(work: Background) -> None:
    ran = run(work.environ, "--no-webhook-test")
    assert (ran.exit_code, lines_of(ran, "webhook")) == (0, [])
    assert work.bank.control.webhooks(merchant=merchant(work)) == []


def test_no_secret_is_printed(work: Background) -> None:
    ran = run(work.environ, "--json", checkout=work.checkout)
    pem = Path(work.environ["DEPOSIT_TOKEN_SIGNING_KEY_FILE"]).read_text(encoding="ascii")
    for secret in (*pem.splitlines()[1:-1], work.environ["DEPOSIT_TOKEN_WEBHOOK_KEYS"]):
        assert secret not in ran.stdout + ran.stderr
