"""What every page of the bank has in common: its headers, the token of its forms, how amounts and times are written."""

from __future__ import annotations

import hmac
import secrets
from datetime import datetime
from typing import Final
from urllib.parse import urlsplit

from flask import Response, request

from deposit_token_sdk.money import decimal_of
from deposit_token_sdk.sandbox import pricing

COOKIE: Final = "sandbox_bank_page"


def browser() -> str:
    """What binds a form to the browser that was shown it: the value of its cookie, or a fresh one."""
    cookie = request.cookies.get(COOKIE, "")
    return cookie if 16 <= len(cookie) <= 64 else secrets.token_urlsafe(18)


def form_token(secret: bytes, cookie: str, purpose: str) -> str:
    """The token of a form: good in one browser, for one purpose."""
    return hmac.new(secret, f"{cookie} {purpose}".encode(), "sha256").hexdigest()


def token_fits(secret: bytes, purpose: str) -> bool:
    """Whether the form that was sent carries its token."""
    expected = form_token(secret, request.cookies.get(COOKIE, ""), purpose)
    return hmac.compare_digest(expected.encode(), request.form.get("form_token", "").encode())


def remember(answer: Response, cookie: str, path: str) -> None:
    """Give the browser its cookie."""
    answer.set_cookie(COOKIE, cookie, path=path, httponly=True, samesite="Strict")


def guarded(answer: Response, return_url: str | None = None) -> Response:
    """The headers of every page. A browser applies form-action to the redirect too, so the way back is named."""
    back = "" if return_url is None else " {0.scheme}://{0.netloc}".format(urlsplit(return_url))
    answer.headers["Content-Security-Policy"] = (
        "default-src 'none'; style-src 'self'; img-src 'self'; script-src 'self'; connect-src 'self'; "
        f"base-uri 'none'; frame-ancestors 'none'; form-action 'self'{back}"
    )
    answer.headers["X-Frame-Options"] = "DENY"
    answer.headers["X-Content-Type-Options"] = "nosniff"
    answer.headers["Referrer-Policy"] = "same-origin"
    answer.headers["Cache-Control"] = "no-store"
    return answer


def tokens(units: int, token: str) -> str:
    """An amount with the token's own decimals."""
    return f"{decimal_of(units, pricing.TOKENS[token].decimals):,f} {token}"


def plainly(moment: datetime) -> str:
    """A moment to the second."""
    return moment.strftime("%Y-%m-%d %H:%M:%S UTC")
