"""What settings, clocks, keys and the shop's health amount to: pure, over what was read, for `deposit-token doctor`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Final

from deposit_token_sdk.checkout.health import Health
from deposit_token_sdk.cli.findings import Finding, State, fail, ok, skip, warn
from deposit_token_sdk.errors import ConfigurationError, DepositTokenError
from deposit_token_sdk.settings import PREFIX, TABLE, Settings
from deposit_token_sdk.signing.keys import KeySet, VerificationKey

NOTICED: Final = 30.0
"""Seconds by which two clocks may differ before doctor says so; at DEPOSIT_TOKEN_SKEW nothing is believed any more."""

OLD_KEY: Final = timedelta(days=365)
"""The age at which a signing key is due to be replaced."""

OLD_FILE: Final = timedelta(days=30)
"""The age at which a file of the bank's keys may miss a key that the bank has revoked."""

SANDBOX: Final = (
    "To try it without a bank, run a practice bank in another terminal:\n"
    "  deposit-token sandbox --port 8790\n"
    "and in this one, in the same folder, take its settings and look again:\n"
    '  eval "$(deposit-token sandbox --env --port 8790)"\n'
    "  deposit-token doctor"
)

_NEEDED: Final[Mapping[str, str]] = {
    "BANK": "the bank's own name for itself",
    "URL": "the address of its API",
    "MERCHANT": "your merchant id there",
    "MODE": "test or live",
    "SIGNING_KEY_FILE": "a file with your private key, which signs your requests",
    "SIGNING_KEY_ID": "the name by which the bank knows that key",
    "WEBHOOK_KEYS": "the bank's public key for your webhook address",
}
"""What a shop gets from its bank, in the order in which it is told."""

_CREATED = re.compile(r";created=(\d{1,11})(?:;|$)", re.ASCII)


def no_settings() -> Finding:
    """Nothing is set at all."""
    width = max(len(name) for name in _NEEDED)
    listed = "\n".join(f"  {PREFIX}{name:<{width}}  {meaning}" for name, meaning in _NEEDED.items())
    return fail(
        "settings",
        "None of the DEPOSIT_TOKEN_* variables is set, so there is no bank to talk to.",
        f"Set these, as your bank tells you; docs/settings.md has all there are:\n{listed}\n{SANDBOX}",
    )


def broken_settings(error: ConfigurationError) -> Finding:
    """Something is missing or cannot be right; the error names it."""
    missing = [word for word in re.findall(rf"{PREFIX}([A-Z_]+)", str(error)) if word in TABLE]
    todo = "\n".join(f"  {PREFIX}{name}  {TABLE[name][1]}" for name in missing)
    about = f"What they mean:\n{todo}" if todo else "docs/settings.md lists the variables there are."
    return fail("settings", str(error), f"{about}\n{SANDBOX}" if error.reason == "setting_missing" else about)


def settings(given: Settings) -> Iterator[Finding]:
    """What is set, what works without being set but should not, and what contradicts itself."""
    name = "settings"
    told = f"{given.issuer} bank {given.bank} at {given.url}, merchant {given.merchant}, mode {given.mode}"
    lacking = [
        each
        for each, there in (("SIGNING_KEY_FILE", given.signing_key), ("SIGNING_KEY_ID", given.signing_key_id))
        if given.message_signatures and not there
    ]
    if lacking:
        listed = " and ".join(PREFIX + each for each in lacking)
        yield fail(name, f"{told}, but {listed} is not set.", "Set it: the bank takes signed requests only.")
    else:
        yield ok(name, f"{told}.")
    if not given.webhook_keys:
        yield fail(
            name,
            f"{PREFIX}WEBHOOK_KEYS is not set: no webhook can be verified.",
            "Set it to the key that the bank shows where the webhook address is set.",
        )
    both = {each.reveal() for each in given.webhook_keys} & {each.reveal() for each in given.other_webhook_keys}
    if both:
        todo = (
            f"Each key belongs to one mode: take it out of {PREFIX}OTHER_WEBHOOK_KEYS, or out of {PREFIX}WEBHOOK_KEYS."
        )
        yield fail(name, "A webhook key is listed for this mode and for the other.", todo)
    if given.mode == "live" and given.url.startswith("http://"):
        yield warn(name, "Live mode over plain http on this machine.", "Is this the bank? Live banks speak https.")


def signing_key(given: Settings, path: str, modified_at: datetime, mode: int, now: datetime) -> Iterator[Finding]:
    """The merchant's own key as a file: `mode` is its permissions; its age is that of the file."""
    age = now - modified_at
    told = f"{given.signing_key_id} in {path}, {_days(age)} old"
    if mode & 0o077:
        yield fail("own key", f"{told}, can be read by others than its owner.", f"chmod 600 {path}")
    elif age > OLD_KEY:
        todo = "Make a new one, give the bank its public half, and change over once the bank has taken it."
        yield warn("own key", f"{told}.", todo)
    else:
        yield ok("own key", f"{told}, for its owner's eyes only.")


def clocks(offset: float | None) -> Finding:
    """The bank's clock against ours, in seconds: positive where the bank's is ahead."""
    if offset is None:
        return skip("clocks", "The bank's answer says no time.")
    seconds = round(abs(offset))
    if seconds <= 2:
        return ok("clocks", "The bank's clock and ours agree to within 2 seconds.")
    said = f"The bank's clock is {seconds} seconds {'ahead of' if offset > 0 else 'behind'} ours."
    if seconds <= NOTICED:
        return ok("clocks", said)
    todo = f"Set this machine's clock by NTP; beyond {PREFIX}SKEW seconds nothing of the bank's is believed."
    return warn("clocks", said, todo)


def offset(headers: Mapping[str, str], at: float) -> float | None:
    """Seconds by which the bank's clock is ahead, by its signature's time or its Date; None where it has neither."""
    signed = _CREATED.search(headers.get("signature-input", ""))
    if signed:
        return int(signed[1]) - at
    try:
        return parsedate_to_datetime(headers["date"]).timestamp() - at
    except (KeyError, ValueError, TypeError):
        return None


def bank_keys(keys: KeySet, pinned: frozenset[str] | None, mode: str, now: datetime) -> Iterator[Finding]:
    """The bank's published keys: which sign now, which have ended, and whether the shop pins them (None: unknown)."""
    name, at = "keys", now.timestamp()
    current = [key for key in keys.keys if not key.revoked and not key.is_retired(at)]
    revoked = sum(key.revoked for key in keys.keys)
    ended = f"{len(keys.keys) - len(current) - revoked} retired, {revoked} revoked"
    listed = ", ".join(f"{key.purpose or 'any purpose'} {key.kid} ({key.algorithm.value})" for key in current)
    lacking = [each for each in ("statement", "answer") if not any(key.purpose in (each, None) for key in current)]
    if lacking:
        said = f"The bank has no current key for {' and '.join(lacking)}s ({ended})."
        yield fail(name, said, "Is the key set the bank's own, and is a pinned thumbprint still the right one?")
        return
    yield ok(name, f"The bank signs with {listed}; {ended}.")
    yield from _ending(current, now)
    if pinned:
        yield ok(name, f"Pinned by {PREFIX}JWKS_THUMBPRINTS: only these keys are believed.")
    elif mode == "live" and pinned is not None:
        prints = " ".join(key.thumbprint() for key in current)
        yield warn(
            name,
            "The bank's keys are not pinned: whoever can change its key set can change whom the shop believes.",
            f'Compare these with the bank, and set {PREFIX}JWKS_THUMBPRINTS="{prints}".',
        )


def keys_file(path: str, modified_at: datetime, now: datetime) -> Finding:
    """A file of the bank's keys does not hear of a key that the bank revokes."""
    told = f"The bank's keys are read from {path}, {_days(now - modified_at)} old"
    if now - modified_at <= OLD_FILE:
        return ok("keys", f"{told}.")
    todo = f"Fetch it anew, or set {PREFIX}JWKS_URL: a key that the bank revokes is believed until the file says so."
    return warn("keys", f"{told}.", todo)


def _ending(current: Iterable[VerificationKey], now: datetime) -> Iterator[Finding]:
    for key in current:
        if key.retired_at is not None and key.retired_at > now:
            yield ok("keys", f"{key.kid} retires in {_days(key.retired_at - now)}.")


_ADVICE: Final[Mapping[str, str]] = {
    "unreachable": f"Is {PREFIX}URL right, and may this machine reach it? Proxies come from HTTPS_PROXY and NO_PROXY.",
    "no_answer": f"Is {PREFIX}URL the bank's API? A firewall or a proxy may hold the connection.",
    "server_error": "The bank has trouble of its own: ask it, and try again later.",
    "rate_limited": "The bank limits how often it is asked: try again later.",
    "keys_unavailable": f"Look at {PREFIX}JWKS_URL in a browser: a JSON object with `keys` is due.",
    "signature_invalid": f"Does {PREFIX}SIGNING_KEY_ID name the key in {PREFIX}SIGNING_KEY_FILE, and has the bank its "
    f"public half, for this merchant and mode?",
    "answer_unsigned": f"Something answers in the bank's place: a proxy's page, or another address than {PREFIX}URL.",
    "key_unknown": f"Are {PREFIX}JWKS_URL (or the file) and {PREFIX}JWKS_THUMBPRINTS those of this bank and mode?",
    "content_type": f"Is {PREFIX}URL the bank's API? What answers there is a page for people.",
    "too_old": "Set this machine's clock by NTP.",
    "in_the_future": "Set this machine's clock by NTP.",
}


def unanswered(error: DepositTokenError) -> Finding:
    """Why the bank's answer could not be had, or not be believed."""
    todo = _ADVICE.get(error.reason, "docs/errors.md says what this error means.")
    return fail("bank", f"{error} ({error.reason})", todo)


def health(figures: Health) -> Iterator[Finding]:
    """The last webhook of each bank, and every problem beyond its limit."""
    for event in figures.last_events:
        if event.at is None:
            yield warn(
                "events",
                f"No webhook of {event.issuer} has ever arrived.",
                "See what the test event below says; before the first order that is all there is to see.",
            )
        else:
            kind = "a test" if event.test else "an invoice's"
            yield ok("events", f"The last webhook of {event.issuer}, {kind}, came {_ago(figures.at - event.at)}.")
    for problem in figures.problems:
        state = State.WARN if problem.reason == "reviews_open" else State.FAIL
        yield Finding(state, "health", f"{problem.detail} ({problem.reason})", problem.advice)
    if not figures.problems:
        yield ok("health", f"No review, no dead letter, nothing overdue; {figures.outgoing} in the outbox.")


def _days(age: timedelta) -> str:
    return "less than a day" if age < timedelta(days=1) else f"{age.days} day{'' if age.days == 1 else 's'}"


def _ago(age: timedelta) -> str:
    seconds = max(0, int(age.total_seconds()))
    for size, name in ((86_400, "day"), (3_600, "hour"), (60, "minute")):
        if seconds >= size:
            return f"{seconds // size} {name}{'' if seconds // size == 1 else 's'} ago"
    return "just now"
