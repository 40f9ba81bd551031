"""The application: settings from the environment, the database, the payments, the pages, and the headers of all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from flask import Flask, render_template, request
from werkzeug.exceptions import HTTPException, SecurityError
from werkzeug.wrappers import Response

from deposit_token_sdk import DepositTokenError
from deposit_token_sdk.checkout.sql import prepare_sqlite
from deposit_token_sdk.integrations.flask import webhooks
from examples.flask_shop import basket, forms, models, payments
from examples.flask_shop.admin import admin, set_password
from examples.flask_shop.catalogue import CURRENCIES
from examples.flask_shop.desk import desk
from examples.flask_shop.languages import gettext as _
from examples.flask_shop.languages import speak, token_number
from examples.flask_shop.orders import kind_word, stage_word, state_word
from examples.flask_shop.shop import shop

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; img-src 'self'; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


def create_app(environ: Mapping[str, str] = os.environ) -> Flask:
    """The shop, set up by SHOP_* and DEPOSIT_TOKEN_* variables.

    SHOP_DATABASE is the path of its SQLite file or a SQLAlchemy URL (PostgreSQL), SHOP_URL its own address as buyers
    see it, SHOP_SECRET_KEY what session cookies are signed with (random if missing: baskets are then lost at a
    restart, and several processes do not know each other's), SHOP_ADMIN_PASSWORD what opens /admin (closed if
    missing), SHOP_RECEIPTS the folder that receipts are written to (``receipts`` if missing).
    """
    app = Flask(__name__)
    url = environ.get("SHOP_URL", "http://127.0.0.1:8000").rstrip("/")
    app.config.update(
        SECRET_KEY=environ.get("SHOP_SECRET_KEY") or secrets.token_urlsafe(32),
        SHOP_URL=url,
        MAX_CONTENT_LENGTH=2 * 1024 * 1024,
        TRUSTED_HOSTS=[urlsplit(url).hostname, "127.0.0.1", "localhost"],
        SESSION_COOKIE_NAME="shop",
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Lax",
        SESSION_COOKIE_SECURE=url.startswith("https:"),
        SQLALCHEMY_DATABASE_URI=_database(environ.get("SHOP_DATABASE", "shop.sqlite")),
        SQLALCHEMY_ENGINE_OPTIONS={"pool_pre_ping": True},
    )
    set_password(app, environ.get("SHOP_ADMIN_PASSWORD", ""))
    paying = payments.build(environ)
    app.extensions["payments"] = paying
    models.db.init_app(app)
    with app.app_context():
        prepare_sqlite(models.db.engine)
        with models.one_at_a_time():
            models.fill()
            paying.store.create_schema()
    bank = webhooks(paying.checkout)
    for blueprint in (shop, admin, desk, bank):
        app.register_blueprint(blueprint)
    forms.protect(app, exempt=[bank.name])
    _dress(app)
    return app


def _database(named: str) -> str:
    return named if "://" in named else f"sqlite:///{Path(named).absolute()}"


def _dress(app: Flask) -> None:
    speak(app)
    app.jinja_env.filters.update(
        token_number=token_number, state_word=state_word, stage_word=stage_word, kind_word=kind_word
    )
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True
    app.register_error_handler(HTTPException, _refused)
    app.register_error_handler(DepositTokenError, _unfinished)

    @app.context_processor
    def common() -> dict[str, object]:
        return {"currencies": CURRENCIES, "currency": basket.currency(), "pieces": basket.pieces()}

    @app.after_request
    def guard(response: Response) -> Response:
        response.headers.update(HEADERS)
        if request.endpoint != "static":
            response.headers["Cache-Control"] = "no-store"
        return response


def _refused(error: HTTPException) -> Response | tuple[str, int]:
    if error.code is None or error.code < 400 or isinstance(error, SecurityError):
        return error.get_response()  # a redirect, or a host that is not ours: no page of ours has an address there
    title = _("This page is not here") if error.code == 404 else _("That did not work")
    own = error.description if error.description != type(error).description else None
    text = own or _("Go back, reload the page and try again.")
    return render_template("message.html", title=title, text=text), error.code


def _unfinished(error: DepositTokenError) -> tuple[str, int]:
    # Nothing is known here of what the bank did, so nothing is said of it.
    payments.log.error("A page could not be finished: %s", error, exc_info=error)
    text = _("This step could not be finished. If you have paid, do nothing: the page of your order will show it.")
    return render_template("message.html", title=_("Please try again"), text=text), 503
