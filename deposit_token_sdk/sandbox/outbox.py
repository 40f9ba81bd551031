"""The outbox: how one webhook is signed, sent, recorded, tried again, and brought forward when time is moved.

`delivery` decides when; here is what happens to a message then. A message is ``queued``, ``behind`` (it waits for a
later one about its invoice to overtake it), ``delivered``, ``given_up``, or ``dropped`` (lost until it is resent).
"""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from sqlalchemy import bindparam, select, update

from deposit_token_sdk.sandbox import keyring
from deposit_token_sdk.sandbox.desk import Desk
from deposit_token_sdk.sandbox.problems import Refused
from deposit_token_sdk.sandbox.tables import add, change, deliveries, messages, rows

if TYPE_CHECKING:
    import requests

WAITING: Final = ("queued", "behind")
_TIMEOUT = (3.0, 10.0)
_KEPT_ANSWER = 500
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


def signed_headers(desk: Desk, merchant: str, message: str, body: bytes, at: datetime) -> dict[str, str]:
    """A message's headers for one try at a whole second of real time, signed by every key of the endpoint."""
    stamp = int(at.timestamp())
    signers = keyring.webhook_signers(desk.db, merchant)
    signed = signers[0].sign(message, stamp, body)
    signed["webhook-signature"] = " ".join(
        [signed["webhook-signature"], *(signer.signature(message, stamp, body) for signer in signers[1:])]
    )
    return {"content-type": "application/json", "user-agent": "deposit-token-sandbox", **signed}


def session() -> requests.Session:
    """A session that takes nothing from the environment."""
    import requests  # noqa: PLC0415 - only a bank that delivers needs it

    made = requests.Session()
    made.trust_env = False
    return made


def post(session: requests.Session, url: str, headers: dict[str, str], body: bytes) -> tuple[int | None, str]:
    """Status and beginning of the answer; no status where there was none."""
    import requests  # noqa: PLC0415 - only a bank that delivers needs it

    try:
        with session.post(
            url, data=body, headers=headers, timeout=_TIMEOUT, allow_redirects=False, stream=True
        ) as answer:
            text = next(answer.iter_content(_KEPT_ANSWER), b"")
            return answer.status_code, text.decode("utf-8", "replace")
    except (requests.RequestException, ValueError) as error:
        return None, f"{type(error).__name__}: {error}"[:_KEPT_ANSWER]


def record(
    desk: Desk, message: str, url: str, headers: dict[str, str], at: datetime, status: int | None, answer: str
) -> None:
    """Keep one try: what was signed when, and what was answered."""
    signature = headers.get("webhook-signature") or headers.get("signature", "")
    row = {"message": message, "url": url, "at": at, "signature": signature, "status": status, "answer": answer}
    desk.db.execute(add(deliveries), row)


def move_on(desk: Desk, message: str, *, taken: bool, unheard: float | None = None) -> bool:
    """After a try: done where it was taken, unless it goes out twice; else by schedule, or in `unheard` seconds.

    Returns whether it, or one that waited for it, is to be sent from now on.
    """
    row = desk.row(rows(messages, "id"), "malformed", "no such message", id=message)
    values: dict[str, object] = {"tries": row["tries"] + 1}
    if unheard is not None:
        values |= {"state": "queued", "due_at": desk.real + timedelta(seconds=unheard)}
    elif taken:
        left = row["copies"] - 1
        values |= {"copies": left, "due_at": desk.real if left else None}
        values |= {"state": "queued" if left else "delivered"}
    else:
        due = _next_try(desk, row["tries"] + 1)
        values |= {"state": "queued" if due else "given_up", "due_at": due}
    desk.db.execute(change(messages), {"which": row["id"], **values})
    overtaken = {"about": row["invoice"], "later": row["seq"], "state": "queued", "due_at": desk.real}
    freed = desk.db.execute(_OVERTAKEN, overtaken).all()
    return values["state"] == "queued" or bool(freed)


_OVERTAKEN = (
    update(messages)
    .where(messages.c.invoice == bindparam("about"), messages.c.state == "behind", messages.c.seq < bindparam("later"))
    .returning(messages.c.id)
)


def pass_over(desk: Desk, message: str) -> None:
    """News that the merchant's dialect has no word for: nothing is sent."""
    desk.db.execute(change(messages), {"which": message, "state": "dropped", "due_at": None})


def finish(desk: Desk, message: str, status: int | None) -> None:
    """After a try by hand: taken or not, it is not sent again."""
    state = "delivered" if status is not None and 200 <= status < 300 else "given_up"
    desk.db.execute(change(messages), {"which": message, "state": state, "tries": 1})


def _next_try(desk: Desk, tries: int) -> datetime | None:
    schedule = desk.house.schedule
    return desk.real + timedelta(seconds=schedule[tries]) if tries < len(schedule) else None


def resend(desk: Desk, message: str, copies: int = 1) -> None:
    """Send a message again, now, and on by schedule if it is not taken. Raises Refused (``malformed``)."""
    if not 1 <= copies <= 100:
        raise Refused("malformed", "A message is sent 1 to 100 times.")
    row = desk.row(rows(messages, "id"), "malformed", f"No message {message[:60]!r}.", id=message)
    values = {"state": "queued", "tries": 0, "copies": copies, "due_at": desk.real}
    desk.db.execute(change(messages), {"which": row["id"], **values})
    desk.woke.append(row["id"])


def bring_forward(desk: Desk, by: timedelta) -> None:
    """Time was moved on: what waits in the outbox waits that much less."""
    waiting = select(messages.c.id, messages.c.due_at).where(
        messages.c.state.in_(WAITING), messages.c.due_at > desk.real
    )
    for row in desk.db.execute(waiting).all():
        due = max(desk.real, row.due_at - min(by, row.due_at - desk.real))
        desk.db.execute(change(messages), {"which": row.id, "due_at": due})


def reference(body: str) -> str | None:
    """The shop's reference in a message, if it has one."""
    found = json.loads(body)["data"].get("reference")
    return found if isinstance(found, str) else None


def corrupted(body: bytes) -> bytes:
    """The body with its last digit or letter changed: still JSON, no longer what was signed."""
    place = next(at for at in range(len(body) - 1, -1, -1) if body[at : at + 1].isalnum())
    return body[:place] + (b"8" if body[place : place + 1] == b"7" else b"7") + body[place + 1 :]


def require_loopback(url: str) -> None:
    """Refuse an address that is not on this machine. Raises Refused (``malformed``)."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or parts.hostname not in _LOOPBACK or "@" in parts.netloc:
        raise Refused("malformed", f"A test event goes to this machine only: http://{', '.join(_LOOPBACK)}.")
