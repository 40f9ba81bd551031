"""Protection against forged forms, for every POST of the shop's own pages.

A visitor's session holds a random token, each form repeats it, and a POST without it goes nowhere. A page elsewhere
can make a browser send a form with the session's cookie, but cannot read the token.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection

from flask import Flask, abort, request, session
from markupsafe import Markup

from examples.flask_shop.languages import gettext

FIELD = "csrf"


def token() -> str:
    """The session's token, made when it is first needed."""
    if FIELD not in session:
        session[FIELD] = secrets.token_urlsafe(24)
    return str(session[FIELD])


def hidden(name: str, value: str) -> Markup:
    """A hidden form field."""
    return Markup('<input type="hidden" name="{}" value="{}">').format(name, value)


def protect(app: Flask, *, exempt: Collection[str]) -> None:
    """Refuse (400) every POST whose form lacks the token, except to the blueprints named in `exempt`."""

    @app.before_request
    def check() -> None:
        if request.method in ("GET", "HEAD", "OPTIONS") or request.blueprint in exempt:
            return
        known, sent = str(session.get(FIELD, "")), request.form.get(FIELD, "")
        if not known or not secrets.compare_digest(known.encode(), sent.encode()):
            abort(400, gettext("This form has grown old. Go back, reload the page and send it once more."))

    app.jinja_env.globals["csrf_field"] = lambda: hidden(FIELD, token())
    app.jinja_env.globals["one_time_field"] = lambda name: hidden(name, secrets.token_urlsafe(16))
