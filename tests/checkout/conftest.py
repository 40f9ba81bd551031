"""A shop in miniature over real parts: the sandbox bank, a database, an HTTP address that the bank's webhooks reach."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from flask import Flask, request
from sqlalchemy import Engine
from sqlalchemy.orm import sessionmaker
from werkzeug.serving import make_server

from deposit_token_sdk import Checkout, Client, SqlStore
from deposit_token_sdk.checkout.hooks import News
from deposit_token_sdk.integrations.flask import webhooks
from deposit_token_sdk.sandbox import Sandbox
from deposit_token_sdk.signing.keys import Algorithm, KeySet, SigningKey
from deposit_token_sdk.signing.standard_webhooks import WebhookSigner
from tests.checkout.kit import SHOP, ForgingBank, Shop, register_hooks

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    with Sandbox(tmp_path_factory.mktemp("bank"), webhook_schedule=(0.0, 0.1, 0.2, 0.5)) as sandbox:
        yield sandbox


@pytest.fixture(autouse=True)
def _no_faults_left(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "bank" in request.fixturenames:
        request.getfixturevalue("bank").control.clear_faults()


@pytest.fixture
def shop(bank: Sandbox, database: Engine) -> Iterator[Shop]:
    """On SQLite, and where the test is marked `databases.ON_BOTH` on PostgreSQL too."""
    with open_shop(bank, database) as made:
        yield made


@contextmanager
def open_shop(bank: Sandbox, database: Engine, dialect: str = "reference") -> Iterator[Shop]:
    """A new merchant's shop, its client speaking that dialect of the bank's."""
    sessions = sessionmaker(database)
    SHOP.create_all(database)
    store = SqlStore(sessions)
    merchant = f"shop-{next(_numbers)}"
    environment = bank.control.create_merchant(merchant, dialect=dialect)
    with Client.from_env(environment) as client:
        checkout = Checkout(client, store)
        app = Flask("shop")
        app.register_blueprint(webhooks(checkout))
        server = make_server("127.0.0.1", 0, app, threaded=True)
        made = Shop(bank, merchant, environment, checkout, sessions, server)

        @app.before_request
        def _keep() -> None:
            with made.changed:
                made.serving += 1
            made.received.append(({name.lower(): value for name, value in request.headers}, request.get_data()))

        @app.teardown_request
        def _announce(_: BaseException | None) -> None:
            with made.changed:
                made.serving -= 1
                made.changed.notify_all()

        register_hooks(made)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        bank.control.set_webhook_url(made.webhook_url, merchant=merchant)
        yield made
        bank.control.set_webhook_url(None, merchant=merchant)
        server.shutdown()
        thread.join(5)
        server.server_close()
        made.rest()  # the database is another test's next


@pytest.fixture
def bank_of_ours(shop: Shop, tmp_path: Path) -> ForgingBank:
    attempt = shop.start()
    shop.lose_webhooks()
    key = SigningKey.generate(Algorithm.ES256, "bank-statement-1")
    signer, _ = WebhookSigner.generate()
    jwks = tmp_path / "jwks.json"
    jwks.write_bytes(json.dumps(KeySet((key.verification_key(purpose="statement"),)).jwks()).encode())
    settings = {name: value for name, value in shop.environment.items() if "JWKS" not in name}
    settings["DEPOSIT_TOKEN_WEBHOOK_KEYS"] = signer.public_text
    client = Client.from_env({**settings, "DEPOSIT_TOKEN_JWKS_FILE": str(jwks)})
    ours = ForgingBank(shop, attempt, client, shop.restarted(client=client), key, signer)

    @ours.checkout.on_review
    def alarm(news: News, _: object) -> None:
        ours.alarms.append(news.detail)

    return ours
