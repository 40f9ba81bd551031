"""The example shop inside the test's own process, over a bank that cannot be reached."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient
from jinja2 import FileSystemBytecodeCache
from werkzeug.security import generate_password_hash

from deposit_token_sdk.signing.keys import Algorithm, SigningKey
from deposit_token_sdk.signing.standard_webhooks import WebhookSigner

if (ROOT := str(Path(__file__).parents[2])) not in sys.path:
    sys.path.insert(0, ROOT)

PASSWORD = "let the keeper in"


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """Settings of a shop whose bank is not there: port 9 of this machine is nobody's."""
    return {
        "DEPOSIT_TOKEN_BANK": "sandbox-bank",
        "DEPOSIT_TOKEN_URL": "http://127.0.0.1:9",
        "DEPOSIT_TOKEN_MERCHANT": "demo-shop",
        "DEPOSIT_TOKEN_MODE": "test",
        "DEPOSIT_TOKEN_SIGNING_KEY": SigningKey.generate(Algorithm.ED25519, "shop").to_pem().decode(),
        "DEPOSIT_TOKEN_SIGNING_KEY_ID": "shop",
        "DEPOSIT_TOKEN_ATTEMPTS": "1",
        "DEPOSIT_TOKEN_WEBHOOK_KEYS": WebhookSigner.generate()[0].public_text,
        "SHOP_DATABASE": str(tmp_path / "shop.sqlite"),
        "SHOP_ADMIN_PASSWORD": PASSWORD,
    }


@pytest.fixture(scope="session")
def compiled_templates(tmp_path_factory: pytest.TempPathFactory) -> FileSystemBytecodeCache:
    """Each test has a shop of its own, all of them the same pages."""
    return FileSystemBytecodeCache(str(tmp_path_factory.mktemp("templates")))


@pytest.fixture
def app(
    environ: dict[str, str], compiled_templates: FileSystemBytecodeCache, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Flask]:
    from examples.flask_shop import admin, create_app  # noqa: PLC0415 - the path above comes first
    from examples.flask_shop.models import db  # noqa: PLC0415 - as above

    quick = partial(generate_password_hash, method="pbkdf2:sha256:1000")
    monkeypatch.setattr(admin, "generate_password_hash", quick)
    app = create_app(environ)
    app.jinja_env.bytecode_cache = compiled_templates
    yield app
    with app.app_context():
        db.session.remove()
        db.engine.dispose()


@pytest.fixture
def visitor(app: Flask) -> Visitor:
    return Visitor(app.test_client())


class Visitor:
    """A visitor's browser, as far as it takes: keeps cookies, and repeats the form's token."""

    def __init__(self, client: FlaskClient) -> None:
        self.client = client

    def get(self, path: str) -> str:
        return self.client.get(path).text

    def status_of(self, path: str) -> int:
        return self.client.get(path).status_code

    def token(self) -> str:
        found = re.search(r'name="csrf" value="([^"]+)"', self.get("/"))
        assert found is not None
        return found[1]

    def post(self, path: str, **fields: object) -> str:
        """Send a form as the shop's own page would; gives the page that it leads to."""
        answer = self.client.post(path, data={"csrf": self.token(), **fields}, follow_redirects=True)
        assert answer.status_code == 200, answer.text
        return answer.text
