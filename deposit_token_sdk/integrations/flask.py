"""The address a bank's webhooks come to in a Flask shop: bytes in, the checkout's answer out.

A blueprint and nothing more. It parses nothing, because a signature covers the bytes as they were sent; who signed
them and what follows is the checkout's business. Exempt the blueprint from the shop's CSRF protection: a bank has no
session, its signature takes that place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from flask import Blueprint, Response, request
from flask.sansio.blueprints import BlueprintSetupState

if TYPE_CHECKING:
    from deposit_token_sdk.checkout.flow import Checkout

NAME: Final = "deposit_token_webhooks"
"""The blueprint's name, as ``request.blueprint`` gives it."""

EXTENSION: Final = "deposit_token"
"""Where an app that has registered the blueprint keeps its checkout: ``app.extensions[EXTENSION]``.

The commands of ``deposit-token`` find it there."""

MAX_BYTES: Final = 1_048_576
"""The largest message that is read (1 MiB); a larger one is answered 413 and not looked at."""


def webhooks(checkout: Checkout, url_prefix: str = "/webhooks") -> Blueprint:
    """A blueprint with ``POST <url_prefix>/<issuer>``, one address for each bank, answering as `checkout` does.

    The answer's status is that of ``Checkout.receive`` (200 taken, 400 not the bank's, 500 to be sent again) and its
    body the reason in one word. Any other method is answered 405. Registering it also makes the checkout known to
    the app, as ``app.extensions["deposit_token"]``.
    """
    blueprint = Blueprint(NAME, __name__, url_prefix=url_prefix)

    @blueprint.record
    def known(state: BlueprintSetupState) -> None:
        state.app.extensions[EXTENSION] = checkout

    @blueprint.route("/<issuer>", methods=["POST"], provide_automatic_options=False)
    def receive(issuer: str) -> Response:
        body = _body()
        if body is None:
            return _text(413, "too_large")
        answer = checkout.receive(dict(request.headers), body, issuer=issuer)
        if answer.body:
            return Response(answer.body, answer.status, mimetype="application/json")
        return _text(answer.status, answer.reason)

    return blueprint


def _body() -> bytes | None:
    """The bytes as they came, or None beyond the bound, also where the sender does not say how long they are."""
    length = request.content_length
    if length is not None and length > MAX_BYTES:
        return None
    body = request.stream.read(MAX_BYTES + 1) if length is None else request.get_data(cache=False)
    return body if len(body) <= MAX_BYTES else None


def _text(status: int, word: str) -> Response:
    return Response(f"{word}\n", status, mimetype="text/plain")
