"""The access token of OAuth 2.0: had with a signed assertion, kept while it serves, renewed before it ends and on 401.

The assertion is an RS256 JWT (RFC 7523) made anew for each request of a token; its `kid` is the SHA-1 thumbprint of
the certificate that the bank holds. For the bank's public mock a client secret is sent as Basic instead. The token is
a secret: it stands in no repr, and in no request but those to the configured address of the API.
"""

from __future__ import annotations

from base64 import b64encode
from functools import partial
from typing import Final
from urllib.parse import urlencode

from attrs import evolve, field, frozen

from deposit_token_sdk.errors import BankUnavailable, ConfigurationError, OutcomeUnknown, Unreadable
from deposit_token_sdk.exchange import Exchange, Request, Response, pause
from deposit_token_sdk.issuers.jpmorgan.options import Options
from deposit_token_sdk.retry import Retry, persist
from deposit_token_sdk.signing import strict_json
from deposit_token_sdk.signing.keys import SigningKey
from deposit_token_sdk.signing.rs256 import sign_compact

ASSERTION_TYPE: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
ASSERTION_LIFE: Final = 300
"""Seconds for which an assertion is good: it is sent at once."""
UNSAID_LIFE: Final = 60.0
"""Seconds for which a token is kept whose life the bank does not name."""
_FORM: Final = "application/x-www-form-urlencoded"


@frozen
class _Token:
    """A token, when it was had, and until when it is used: a tenth of its life, at least, is left then."""

    text: str = field(repr=False)
    until: float


class Access:
    """The token of one client. Times are seconds since 1970, told by the edge."""

    def __init__(self, options: Options, key: SigningKey | None, kid: str, policy: Retry) -> None:
        self._options = options
        self._key = key
        self._kid = kid
        self._policy = policy
        self._token: _Token | None = None

    @property
    def needed(self) -> bool:
        """Whether the API is asked with a token at all."""
        return bool(self._options.token_url)

    def bearer(self) -> Exchange[str]:
        """A token that serves now. Raises BankUnavailable (``token_refused`` among others): nothing was asked yet."""
        now = (yield from pause(0)).at
        known = self._token
        if known is None or now >= known.until:
            known = yield from self._fetched()
            self._token = known
        return known.text

    def refuse(self, text: str) -> None:
        """The bank does not take this token any more."""
        if self._token is not None and self._token.text == text:
            self._token = None

    def _fetched(self) -> Exchange[_Token]:
        try:
            response = yield from persist(self._request, self._policy, idempotent=True)
        except OutcomeUnknown as unknown:  # a token more or less moves nothing
            raise BankUnavailable("token_unavailable", f"The bank gave no access token: {unknown}") from None
        answer = _answer(response)
        life = strict_json.integer(answer, "expires_in") if "expires_in" in answer else UNSAID_LIFE
        spare = max(life / 10, min(60.0, life / 2))
        return _Token(strict_json.text(answer, "access_token"), response.at + max(0.0, life - spare))

    def _request(self, timeout: float) -> Request:
        headers = {"accept": "application/json", "content-type": _FORM}
        url, route = self._options.token_url, "POST token"
        return Request("POST", url, route, headers, b"", timeout, partial(_signed, self))

    def form(self, now: float, nonce: str) -> tuple[dict[str, str], dict[str, str]]:
        """Headers and form fields of one request of a token. Raises ConfigurationError (``setting_missing``)."""
        options = self._options
        fields = {"grant_type": "client_credentials"}
        if options.client_secret:
            pair = f"{options.client_id}:{options.client_secret.reveal()}".encode()
            return {"authorization": f"Basic {b64encode(pair).decode()}"}, {**fields, "scope": options.scope}
        if self._key is None:
            raise ConfigurationError(
                "setting_missing", "Set DEPOSIT_TOKEN_SIGNING_KEY_FILE: it signs the request of an access token."
            )
        claims = {
            "iss": options.client_id,
            "sub": options.client_id,
            "aud": options.token_url,
            "iat": int(now),
            "exp": int(now) + ASSERTION_LIFE,
            "jti": nonce,
        }
        assertion = sign_compact(strict_json.dumps(claims), self._key, kid=self._kid)
        fields |= {"client_id": options.client_id, "client_assertion_type": ASSERTION_TYPE}
        fields |= {"client_assertion": assertion} | ({"resource": options.resource} if options.resource else {})
        return {}, fields


def _signed(access: Access, request: Request, now: float, nonce: str) -> Request:
    headers, fields = access.form(now, nonce)
    return evolve(request, headers={**request.headers, **headers}, body=urlencode(fields).encode())


def _answer(response: Response) -> dict[str, object]:
    try:
        answer = strict_json.parse(response.body)
    except Unreadable as error:
        raise BankUnavailable(
            "token_refused", f"The token address answered {response.status}, and no JSON ({error.reason})."
        ) from None
    if response.status != 200:
        told = " ".join(str(answer[name])[:200] for name in ("error", "error_description") if name in answer)
        raise BankUnavailable(
            "token_refused",
            f"The bank gave no access token ({response.status} {told}): look at DEPOSIT_TOKEN_JPMORGAN_CLIENT_ID, "
            f"RESOURCE and TOKEN_URL, and at the certificate that the bank holds.",
        )
    return answer
