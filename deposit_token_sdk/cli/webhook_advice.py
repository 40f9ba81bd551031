"""What an answer to the bank's test event means for the shop, and what to do: pure, over what the bank was answered.

It names the cause that people meet most often for each answer. What it cannot know it does not claim: a 200 is
good only if it is in this SDK's own words, or if the event is found in the shop's database.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from deposit_token_sdk.cli.findings import Finding, fail, ok, warn
from deposit_token_sdk.models import WebhookTest

NAME: Final = "webhook"
TEST_EVENT: Final = "test.ping"
"""The event's type; our own route answers with this word."""

_ERRORS: Final[Mapping[str, tuple[str, str]]] = {
    "name_unknown": (
        "the bank cannot resolve the name in the address",
        "Correct the address at the bank, or publish its name in public DNS.",
    ),
    "refused": (
        "nothing listens there",
        "Start the shop, or correct the port; behind a proxy or a firewall, let the bank through.",
    ),
    "tls_failed": (
        "TLS failed",
        "Renew the certificate, for this very name, and serve its whole chain: browsers fill gaps, banks do not.",
    ),
    "timed_out": (
        "no answer came in time",
        "Let the bank through the firewall. If the shop is slow, let on_paid do little and the outbox the rest.",
    ),
    "broken_off": (
        "the connection was closed without an answer",
        "Look at the log of the proxy and of the shop: a worker may have died, or http is spoken where https is due.",
    ),
    "address_unusable": ("the address is no http address", "Correct the address at the bank."),
}

_OUR_REFUSALS: Final[Mapping[str, str]] = {
    "signature_mismatch": "Set DEPOSIT_TOKEN_WEBHOOK_KEYS to the key that the bank shows for this address and mode. If "
    "it is that one, something reads or rewrites the body before the SDK does: hand over the raw bytes.",
    "header_missing": "A proxy strips webhook-id, webhook-timestamp or webhook-signature: have it pass them on.",
    "header_malformed": "A proxy repeats or merges the webhook-… headers: have it pass them on as they are.",
    "no_known_signature_version": "DEPOSIT_TOKEN_WEBHOOK_KEYS is of another kind than the bank signs with: whpk_… "
    "verifies v1a, whsec_… verifies v1. Take the key that the bank shows.",
    "too_old": "The shop's clock is ahead, or the message was held up on its way: run NTP on the shop's machine.",
    "in_the_future": "The shop's clock is behind: run NTP on the shop's machine.",
    "event_id_reused": "Something answered for the bank before: look at the reviews.",
}

_STATUSES: Final[Mapping[int, tuple[str, str]]] = {
    400: (
        "the request is refused",
        (
            "Another application, a framework's own check or a firewall took it, since the answer is not in this SDK's "
            "words: let POST to this path reach the route with its body untouched."
        ),
    ),
    401: ("a login is asked for", "Exempt the path from the login: the bank's signature takes its place."),
    403: (
        "it is forbidden",
        (
            "Exempt the path from CSRF protection, from the firewall (WAF) and from bot checks: a bank has no session "
            "and no browser, its signature takes their place."
        ),
    ),
    404: (
        "nothing is served there",
        "Register the route, or correct the address at the bank: it ends in /webhooks/<the bank's name>.",
    ),
    405: (
        "no POST is taken there",
        "Another page than the webhook route answers: correct the path, or the proxy's rule that leads there.",
    ),
    411: ("a length is asked for", "Let the proxy pass bodies on as they come."),
    413: ("the message is too large for it", "Raise the proxy's limit on bodies to 1 MiB for this path."),
    415: (
        "no JSON is taken there",
        "Another application answers: correct the path, or the proxy's rule that leads there.",
    ),
    429: ("too many calls", "Exempt the bank from rate limits on this path."),
    500: ("it failed", "Look at the shop's log of this moment: the route, or what runs before it, raised."),
    502: ("a proxy cannot reach the shop", "Start the shop, or correct where the proxy looks for it."),
    503: ("the shop is not ready", "Is the shop up, and can it fetch the bank's keys? Its log says why."),
    504: ("a proxy waited for the shop in vain", "Let on_paid do little and the outbox the rest; see the log."),
}


def advice(tried: WebhookTest, issuer: str, *, heard: bool | None = None) -> Finding:
    """The finding. `heard` says whether the event is in the shop's database; None where that was not looked up."""
    at = f"{tried.url}: "
    if tried.status is None:
        said, todo = _ERRORS.get(tried.error or "", ("it could not be reached", "Look at what the bank says."))
        return fail(NAME, f"{at}{said} ({tried.detail or tried.error}).", todo)
    at = f"{tried.url} answered {tried.status} in {tried.milliseconds} ms"
    if 200 <= tried.status < 300:
        return _taken(tried, at, heard)
    if 300 <= tried.status < 400:
        return _redirected(tried, at)
    word = tried.body.strip()
    if tried.status == 404 and word == "unknown_issuer":
        todo = f"Have the address at the bank end in /{issuer}, which is the bank's name in the shop's settings."
        return fail(NAME, f"{at}: the shop is there, but has no bank of that name.", todo)
    if word in _OUR_REFUSALS:
        return fail(NAME, f"{at}: the shop refused the event ({word}).", _OUR_REFUSALS[word])
    said, todo = _STATUSES.get(tried.status, _STATUSES[500] if tried.status >= 500 else _STATUSES[400])
    return fail(NAME, f"{at}: {said}.{_quoted(tried)}", todo)


def _taken(tried: WebhookTest, at: str, heard: bool | None) -> Finding:
    if heard:
        return ok(NAME, f"{at}, and the event is in the shop's database.")
    ours = tried.body.strip() == TEST_EVENT
    if ours and heard is None:
        return ok(NAME, f"{at}, in this SDK's words.")
    if ours:
        return fail(
            NAME,
            f"{at}, in this SDK's words, but the event is not in this shop's database.",
            "Another copy of the shop answers, with a database of its own: correct the address at the bank.",
        )
    lost = "The bank takes that for delivered, so what it sends is lost."
    if _is_html(tried):
        login = any(word in tried.body.lower() for word in ("password", "log in", "login", "sign in", "signin"))
        if login:
            return fail(
                NAME,
                f"{at} with a login page. {lost}",
                "Exempt the path from the login: the bank's signature takes its place.",
            )
        return fail(
            NAME,
            f"{at} with an HTML page.{_quoted(tried)} {lost}",
            "Another page or application answers there: correct the address at the bank, or the proxy's rule.",
        )
    if heard is None:
        return warn(
            NAME,
            f"{at}, not in this SDK's words.{_quoted(tried)}",
            "If the route is your own and answers with `receive`'s status, all is well: name the shop by --checkout, "
            "and doctor looks in its database. Else something other than the shop answers.",
        )
    return fail(
        NAME,
        f"{at}, but the event is not in this shop's database.{_quoted(tried)} {lost}",
        "Something other than this shop answers there, or the route does not hand the message to `receive`.",
    )


def _redirected(tried: WebhookTest, at: str) -> Finding:
    where = tried.location or "an address that it does not name"
    path = urlsplit(tried.location or "").path.lower()
    if any(word in path for word in ("login", "signin", "sign-in", "auth", "sso")):
        return fail(
            NAME,
            f"{at}, a redirect to the login page {where}.",
            "Exempt the path from the login: the bank's signature takes its place.",
        )
    return fail(
        NAME,
        f"{at}, a redirect to {where}. Banks follow none: a signed POST would arrive as an empty GET.",
        f"Set the final address at the bank{f': {where}' if tried.location else ''}. Mind https, www and the slash at "
        f"the end.",
    )


def _is_html(tried: WebhookTest) -> bool:
    return "html" in (tried.content_type or "").lower() or tried.body.lstrip().lower().startswith(
        ("<!doctype", "<html")
    )


def _quoted(tried: WebhookTest) -> str:
    """The beginning of the answer, on one line."""
    text = " ".join(tried.body.split())[:120]
    return f" It says {text!r}." if text else ""
