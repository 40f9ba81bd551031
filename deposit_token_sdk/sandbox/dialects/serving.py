"""What the dialects share at the web's edge: the bank's faults around a piece of work, and its memory of keys."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from attrs import frozen
from flask import Response, request

from deposit_token_sdk.errors import NotGenuine, Unreadable
from deposit_token_sdk.sandbox import memory, trouble
from deposit_token_sdk.sandbox.bank import Bank
from deposit_token_sdk.sandbox.desk import Desk
from deposit_token_sdk.sandbox.memory import Kept
from deposit_token_sdk.sandbox.problems import Refused
from deposit_token_sdk.sandbox.tables import undoable
from deposit_token_sdk.signing import strict_json

_NEVER_KEPT: Final = frozenset({400, 401, 429, 503})


@frozen
class Serving:
    """Serves one dialect of one bank. `refusal` puts a refusal into that bank's words."""

    bank: Bank
    refusal: Callable[[Refused], Response]

    def serve(
        self, route: str, about: tuple[str, ...], work: Callable[[Desk], Kept], owner: str = "", key: str = ""
    ) -> Response:
        """The answer to one request: `route` and `about` are what faults are told by, `key` an idempotency key.

        A key is remembered with the whole request, for the merchant who is its `owner`.
        """
        where = trouble.where(self.bank, about, route)
        try:
            trouble.before(self.bank, where)
            done = self._done(work, owner, key, where)
            trouble.after(self.bank, where, request.environ)
        except Refused as refused:
            return self.refusal(refused)
        except (Unreadable, NotGenuine) as error:
            code = "malformed" if isinstance(error, Unreadable) else "signature_invalid"
            return self.refusal(Refused(code, str(error)))
        answer = Response(done.body.encode(), done.status, content_type="application/json")
        trouble.drip(self.bank, where, answer)
        return answer

    def _done(self, work: Callable[[Desk], Kept], owner: str, key: str, where: dict[str, Any]) -> Kept:
        with self.bank.desk() as desk:
            if not key:
                return self._worked(work, desk, where)
            mark = memory.fingerprint(request.method, str(request.environ["REQUEST_URI"]), request.get_data())
            before = memory.recall(desk.db, owner, key, mark, desk.now)
            if before is not None:
                return before
            kept = self._worked(work, desk, where)
            if kept.status not in _NEVER_KEPT:
                memory.keep(desk.db, owner, key, mark, kept, desk.now)
            return kept

    def _worked(self, work: Callable[[Desk], Kept], desk: Desk, where: dict[str, Any]) -> Kept:
        """Do it, or refuse it with nothing done; and fail for good where a fault says so."""
        if self.bank.faults.take("kept_error", **where):
            return self._failure()
        with undoable(desk.db):
            kept = work(desk)
        return self._failure() if self.bank.faults.take("kept_error_after", **where) else kept

    def _failure(self) -> Kept:
        failed = self.refusal(Refused("internal", "The bank failed, and keeps to it."))
        return Kept(failed.status_code, failed.get_data(as_text=True))


def kept(status: int, document: dict[str, Any]) -> Kept:
    """An answer in JSON; numbers are written exactly."""
    return Kept(status, strict_json.dumps_exact(document).decode())
