"""The control over HTTP: ``POST /control/<verb>`` with a JSON object of arguments, ``GET /control`` for the list.

Unsigned, for whoever sits at this machine. A web page elsewhere cannot use it: only JSON is taken, which a browser
sends to another origin only after asking, and nothing here says yes; and what a browser says of a request's origin
is checked.
"""

from __future__ import annotations

import json
from typing import Any

from flask import Flask, Response, request

from deposit_token_sdk.errors import DepositTokenError
from deposit_token_sdk.sandbox import control as control_room
from deposit_token_sdk.sandbox.control import Control
from deposit_token_sdk.sandbox.desk import new_id
from deposit_token_sdk.sandbox.problems import Refused, problem


def mount(app: Flask, control: Control) -> None:
    """Add the control's routes."""

    def verb(verb: str) -> Response:
        try:
            refuse_other_origins()
            return _json(200, control_room.call(control, verb, _arguments()))
        except Refused as refused:
            return _refusal(refused)
        except DepositTokenError as error:
            return _refusal(Refused("malformed", str(error)))

    app.add_url_rule("/control/<verb>", "control", verb, methods=["POST"])
    app.add_url_rule("/control", "controls", lambda: _json(200, control_room.described()), methods=["GET"])


def refuse_other_origins() -> None:
    """Refuse what a browser sends on behalf of another origin's page. Raises Refused (``malformed``)."""
    origin, site = request.headers.get("Origin"), request.headers.get("Sec-Fetch-Site", "none")
    if site not in ("none", "same-origin") or origin not in (None, f"http://{request.host}", f"https://{request.host}"):
        raise Refused("malformed", "This request comes from another origin's page.", status=403)


def _arguments() -> dict[str, Any]:
    if request.mimetype != "application/json":
        raise Refused("malformed", "Send the arguments as a JSON object, Content-Type application/json.", status=415)
    try:
        arguments = json.loads(request.get_data() or b"{}")
    except ValueError as error:
        raise Refused("malformed", f"This is no JSON: {error}") from None
    except RecursionError:
        raise Refused("malformed", "This JSON nests too deep.") from None
    if not isinstance(arguments, dict):
        raise Refused("malformed", "Send the arguments as a JSON object.")
    return arguments


def _refusal(refused: Refused) -> Response:
    return _json(refused.status, problem(refused.code, refused.detail, refused.status, new_id("req")))


def _json(status: int, document: object) -> Response:
    kind = "application/json" if status < 400 else "application/problem+json"
    return Response(json.dumps(document, ensure_ascii=False), status, content_type=kind)
