"""The bank's web edge: requests verified, idempotency kept, answers signed, problems told. It decides nothing.

Every request of the reference API is signed (RFC 9421), and where it carried a signature the answer is signed too,
refusals included. A request is verified before the desk is opened, and one heard before refused before it meets any
fault; its nonce is spent in the transaction that decides it, or, where it never comes to that, in one of its own. The
address that counts is the one the merchant called, checked against the names this bank answers to, so that no web page
can reach it under another name.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from attrs import define, frozen
from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException

from deposit_token_sdk.errors import InvalidInput, NotGenuine, Unreadable
from deposit_token_sdk.sandbox import api, clock, keyring, memory, trouble
from deposit_token_sdk.sandbox.bank import DEMO_MERCHANT, Bank
from deposit_token_sdk.sandbox.desk import Desk, new_id
from deposit_token_sdk.sandbox.memory import Kept
from deposit_token_sdk.sandbox.problems import Refused, problem
from deposit_token_sdk.sandbox.tables import undoable
from deposit_token_sdk.signing import http_signatures, strict_json
from deposit_token_sdk.signing.keys import SigningKey, VerificationKey

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

LARGEST_BODY: Final = 1 << 20
_LOG = logging.getLogger("deposit_token_sdk.sandbox")
_NEVER_KEPT = frozenset({400, 401, 429})


class Edge:
    """The WSGI application around Flask: names this bank answers to, and connections cut on demand."""

    def __init__(self, app: Flask, hosts: Callable[[], Collection[str]]) -> None:
        self._app = app
        self._hosts = hosts

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ.get("HTTP_HOST", "").lower() not in self._hosts():
            body = b"This bank does not answer to that name.\n"
            headers = [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))]
            start_response("421 Misdirected Request", headers)
            return [body]
        answer = self._app(environ, start_response)
        if environ.get(trouble.DROP):
            raise ConnectionAbortedError("the connection is cut on demand")  # waitress closes without an answer
        return answer


@define
class _Call:
    """One request on its way: who asks, as whom it was verified, and with which key it is answered."""

    id: str
    url: str
    headers: dict[str, str]
    merchant: str = DEMO_MERCHANT
    unspent: tuple[str, str] | None = None
    """Key id and nonce, until the nonce is spent; None where nothing was signed."""
    nonce: tuple[str, str] | None = None
    """The same, until the request is answered: a replay meanwhile is refused and cannot spend it first."""
    answer_key: SigningKey | None = None
    """The newest when the request was decided; None where it has not been."""

    @property
    def signed(self) -> bool:
        """Whether it carries a signature, good or bad."""
        return "signature" in self.headers


@frozen
class Api:
    """Serves the routes of the reference API for one bank."""

    bank: Bank
    require_signatures: bool

    def mount(self, app: Flask) -> None:
        """Add every route of the API, the bank's keys and the API's own description."""
        for route in api.ROUTES:
            app.add_url_rule(route.path, route.name, self._view(route), methods=[route.method])
        app.add_url_rule("/.well-known/jwks.json", "jwks", self._keys)
        app.add_url_rule("/openapi.yaml", "openapi", _description)
        app.register_error_handler(HTTPException, self._http_error)
        app.register_error_handler(Exception, self._failed)

    def _view(self, route: api.Route) -> Callable[..., Response]:
        def view(**path: str) -> Response:
            call = _call()
            try:
                return self._serve(route, path, call)
            except Refused as refused:
                return self._refusal(refused, call)
            finally:
                if call.nonce is not None:
                    self.bank.in_hand.leave("nonce", *call.nonce)

        return view

    def _serve(self, route: api.Route, path: dict[str, str], call: _Call) -> Response:
        body = request.get_data()
        if "%00" in request.environ["REQUEST_URI"] or b"\\u0000" in body:
            raise Refused("malformed", "No text holds a NUL.")
        self._verify(call, body)
        try:
            asked = api.Asked(path, request.args, _read(route, body))
            where = trouble.where(self.bank, asked.about, route.template)
            trouble.before(self.bank, where)
            kept = self._decide(route, call, asked, body, where)
        except Exception:
            self._spend(call)
            raise
        trouble.after(self.bank, where, request.environ)
        answer = self._answer(kept, call)
        trouble.drip(self.bank, where, answer)
        return answer

    def _verify(self, call: _Call, body: bytes) -> None:
        """Find out who asks: the owner of the key that signed. Raises Refused (``signature_invalid``)."""
        if not self.require_signatures and not call.signed:
            return

        def key(kid: str) -> VerificationKey:
            with self.bank.reading() as db:
                call.merchant, found = keyring.merchant_key(db, kid)
            return found

        def seen(kid: str, nonce: str) -> bool:
            if not self.bank.in_hand.take("nonce", kid, nonce):
                return True
            call.nonce = (kid, nonce)
            if self.bank.faults.in_force:  # a replay takes none; what decides is the transaction that spends the nonce
                with self.bank.reading() as db:
                    if memory.nonce_spent(db, kid, nonce):
                        return True
            call.unspent = call.nonce
            return False

        now = clock.real_now().timestamp()
        try:
            http_signatures.verify_request(
                request.method, call.url, call.headers, body or None, key, now=now, nonce_seen=seen
            )
        except NotGenuine as error:
            raise _not_genuine(error) from None

    @contextmanager
    def _desk(self, call: _Call) -> Iterator[Desk]:
        """A desk at which the request's nonce is spent, and the key of its answer taken, in the one transaction.

        Raises Refused (``signature_invalid``) where the nonce has been spent before.
        """
        with self.bank.desk() as desk:
            if call.unspent is not None and memory.nonce_seen(desk.db, *call.unspent, desk.real):
                call.unspent = None
                raise _not_genuine(http_signatures.nonce_spent())
            yield desk
            if call.signed:
                call.answer_key = keyring.current(desk.db, keyring.ANSWER)
        call.unspent = None

    def _spend(self, call: _Call) -> None:
        """What was verified and not decided cannot come again either. Raises Refused (``signature_invalid``)."""
        if call.unspent is not None:
            with self._desk(call):
                pass

    def _decide(self, route: api.Route, call: _Call, asked: api.Asked, body: bytes, where: dict[str, Any]) -> Kept:
        decide, merchant = route.decide, call.merchant
        if route.method == "GET" and not isinstance(decide, api.Errand):
            with self._desk(call) as desk:
                return _kept(route.status, decide(desk, merchant, asked))
        key = request.headers.get("Idempotency-Key", "")
        if not 1 <= len(key) <= 64 or not key.isascii() or not key.isprintable():
            raise Refused("idempotency_key_missing", "Every POST carries an Idempotency-Key of 1 to 64 characters.")
        mark = memory.fingerprint(request.method, str(request.environ["REQUEST_URI"]), body)
        if isinstance(decide, api.Errand):
            return self._run(decide, route.status, call, key, mark)
        with self.bank.in_hand.only(merchant, key), self._desk(call) as desk:
            before = memory.recall(desk.db, merchant, key, mark, desk.now)
            if before is not None:
                return before
            kept = self._work(route.status, lambda: decide(desk, merchant, asked), desk, call.id, where)
            if kept.status not in _NEVER_KEPT:
                memory.keep(desk.db, merchant, key, mark, kept, desk.now)
            return kept

    def _run(self, errand: api.Errand, status: int, call: _Call, key: str, mark: str) -> Kept:
        """Do what calls the shop, with no transaction open while it does."""
        merchant = call.merchant
        with self.bank.in_hand.only(merchant, key):
            with self._desk(call) as desk:
                before = memory.recall(desk.db, merchant, key, mark, desk.now)
                if before is not None:
                    return before
                sent = errand.begin(desk, merchant)
            reached = errand.go(sent)
            with self._desk(call) as desk:
                kept = _kept(status, errand.end(desk, sent, reached))
                memory.keep(desk.db, merchant, key, mark, kept, desk.now)
                return kept

    def _work(
        self, status: int, work: Callable[[], dict[str, Any]], desk: Desk, request_id: str, where: dict[str, Any]
    ) -> Kept:
        """Do it, or refuse it with nothing done; and fail for good where a fault says so."""
        failure = _kept(500, problem("internal", "The bank failed, and keeps to it.", 500, request_id))
        if self.bank.faults.take("kept_error", **where):
            return failure
        try:
            with undoable(desk.db):
                kept = _kept(status, work())
        except Refused as refused:
            return _kept(refused.status, problem(refused.code, refused.detail, refused.status, request_id))
        except Unreadable as error:
            return _kept(400, problem("malformed", str(error), 400, request_id))
        return failure if self.bank.faults.take("kept_error_after", **where) else kept

    def _refusal(self, refused: Refused, call: _Call) -> Response:
        document = problem(refused.code, refused.detail, refused.status, call.id)
        return self._answer(_kept(refused.status, document), call, refused.retry_after)

    def _answer(self, kept: Kept, call: _Call, retry_after: int | None = None) -> Response:
        body = kept.body.encode()
        answer = Response(body, kept.status)
        answer.headers["Content-Type"] = "application/json" if kept.status < 400 else "application/problem+json"
        answer.headers["Request-Id"] = call.id
        answer.headers["Cache-Control"] = "no-store"
        if retry_after is not None:
            answer.headers["Retry-After"] = str(retry_after)
        if call.signed:
            self._sign(answer, body, call)
        return answer

    def _sign(self, answer: Response, body: bytes, call: _Call) -> None:
        key = call.answer_key or self._answer_key()
        try:
            added = http_signatures.sign_answer(
                answer.status_code,
                {name.lower(): value for name, value in answer.headers.items()},
                body,
                request.method,
                call.url,
                call.headers,
                key,
                created=int(clock.real_now().timestamp()),
            )
        except (InvalidInput, NotGenuine):
            return  # the request's own signature header cannot be covered: the answer stays unsigned
        answer.headers.update(added)

    def _answer_key(self) -> SigningKey:
        """For what was refused without a desk."""
        with self.bank.reading() as db:
            key = keyring.newest(db, keyring.ANSWER)
        if key is None:
            with self.bank.desk() as desk:
                key = keyring.current(desk.db, keyring.ANSWER)
        return key

    def _keys(self) -> Response:
        with self.bank.desk() as desk:
            keys = keyring.published(desk.db).jwks()
        return self._answer(_kept(200, keys), _call())

    def _http_error(self, error: HTTPException) -> Response:
        status = error.code or 500
        code = {404: "not_found", 405: "method_not_allowed", 413: "too_large"}.get(status, "malformed")
        if status >= 500:
            code = "internal"
        if status < 400:
            return Response(status=status, headers=error.get_headers())
        return self._refusal(Refused(code, error.description or code, status=status), _call())

    def _failed(self, error: Exception) -> Response:
        _LOG.error("The sandbox bank failed.", exc_info=error)
        return self._refusal(Refused("internal", "The bank failed; its log says why."), _call())


def _kept(status: int, document: dict[str, Any]) -> Kept:
    return Kept(status, strict_json.dumps(document).decode())


def _call() -> _Call:
    """The request at hand, its address as the merchant called it, to the letter."""
    called = f"http://{request.host}{request.environ['REQUEST_URI']}"
    return _Call(new_id("req"), called, {name.lower(): value for name, value in request.headers.items()})


def _not_genuine(error: NotGenuine) -> Refused:
    return Refused("signature_invalid", f"{error.reason}: {error}")


def _read(route: api.Route, body: bytes) -> dict[str, Any]:
    if route.method == "GET":
        return {}
    if request.mimetype != "application/json":
        raise Refused("malformed", "Content-Type is application/json.", status=415)
    try:
        return strict_json.parse(body)
    except Unreadable as error:
        raise Refused("malformed", str(error)) from None


def _description() -> Response:
    text = (Path(__file__).parent / "openapi.yaml").read_bytes()
    return Response(text, content_type="application/yaml; charset=utf-8")
