from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
from attrs import evolve, frozen
from hypothesis import given, settings
from hypothesis import strategies as st

from deposit_token_sdk.errors import InvalidInput, NotGenuine
from deposit_token_sdk.signing import http_signatures
from deposit_token_sdk.signing.base64url import encode_standard
from deposit_token_sdk.signing.http_signatures import content_digest
from deposit_token_sdk.signing.keys import Algorithm, KeySet, SigningKey, VerificationKey

URL = "https://bank.example/invoices?reference=A1"
BODY = b'{"reference":"A1","units":"14100"}'
CREATED = 1_790_000_000
MERCHANT = SigningKey.generate(Algorithm.ED25519, "merchant-1")
MERCHANT_P256 = SigningKey.generate(Algorithm.ES256, "merchant-2")
BANK = SigningKey.generate(Algorithm.ED25519, "bank-answer-1")
MERCHANT_KEYS = KeySet((MERCHANT.verification_key(), MERCHANT_P256.verification_key()))
BANK_KEYS = KeySet((BANK.verification_key(purpose="answer"),))


@frozen
class Post:
    """A request on its way, to be tampered with."""

    headers: dict[str, str]
    method: str = "POST"
    url: str = URL
    body: bytes | None = BODY

    def verify(self, keys: http_signatures.KeySource = MERCHANT_KEYS, **options: Any) -> VerificationKey:
        options = {"now": CREATED + 1.0, **options}
        return http_signatures.verify_request(self.method, self.url, self.headers, self.body, keys, **options)

    def refused(self, keys: http_signatures.KeySource = MERCHANT_KEYS, **options: Any) -> NotGenuine:
        with pytest.raises(NotGenuine) as error:
            self.verify(keys, **options)
        return error.value

    def with_headers(self, **changes: str | None) -> Post:
        named = {name.replace("_", "-"): value for name, value in changes.items()}
        merged: dict[str, str | None] = {**self.headers, **named}
        return evolve(self, headers={name: value for name, value in merged.items() if value is not None})


def signed_request(
    key: SigningKey = MERCHANT,
    *,
    method: str = "POST",
    body: bytes | None = BODY,
    nonce: str = "n-1",
    headers: Mapping[str, str] | None = None,
) -> Post:
    given_headers = {"content-type": "application/json", "idempotency-key": "k-1"} if headers is None else dict(headers)
    added = http_signatures.sign_request(method, URL, given_headers, body, key, created=CREATED, nonce=nonce)
    return Post({**given_headers, **added}, method=method, body=body)


def input_replaced(post: Post, old: str, new: str) -> Post:
    return post.with_headers(signature_input=post.headers["signature-input"].replace(old, new))


def test_a_post_signs_method_address_body_type_and_key_and_verifies() -> None:
    for key, alg in ((MERCHANT, "ed25519"), (MERCHANT_P256, "ecdsa-p256-sha256")):
        post = signed_request(key)
        assert post.headers["signature-input"] == (
            'sig1=("@method" "@target-uri" "content-digest" "content-type" "idempotency-key")'
            f';created={CREATED};nonce="n-1";keyid="{key.kid}";alg="{alg}"'
        )
        assert post.headers["content-digest"] == content_digest(BODY)
        assert post.verify() == key.verification_key()
        assert post.verify(lambda kid: MERCHANT_KEYS.require(kid, None)) == key.verification_key()


def test_a_get_signs_method_and_address_alone() -> None:
    get = signed_request(method="GET", body=None, headers={"accept": "application/json"})
    assert get.headers["signature-input"].startswith('sig1=("@method" "@target-uri");created=')
    assert "content-digest" not in get.headers
    assert get.verify() == MERCHANT.verification_key()


def test_a_get_with_a_body_or_a_digest_is_held_to_them() -> None:
    get = signed_request(method="GET", body=None, headers={})
    assert evolve(get, body=BODY).refused().reason == "components_missing"
    assert get.with_headers(content_digest=content_digest(BODY)).refused().reason == "digest_mismatch"
    with_body = signed_request(method="GET")
    assert '"content-digest"' in with_body.headers["signature-input"]
    assert with_body.verify().kid == "merchant-1"
    assert evolve(with_body, body=b"{}").refused().reason == "digest_mismatch"


def test_a_post_without_a_body_signs_the_digest_of_nothing() -> None:
    post = signed_request(body=None, headers={})
    assert post.headers["content-digest"] == content_digest(b"")
    assert post.verify().kid == evolve(post, body=b"").verify().kid == "merchant-1"
    assert evolve(post, body=b"{}").refused().reason == "components_missing"


@settings(deadline=None)
@given(
    body=st.binary(max_size=60),
    nonce=st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=20),
    created=st.integers(0, 10**12),
)
def test_whatever_is_signed_verifies(body: bytes, nonce: str, created: int) -> None:
    headers = {"Content-Type": "application/json; charset=utf-8"}
    added = http_signatures.sign_request("POST", URL, headers, body, MERCHANT, created=created, nonce=nonce)
    seen: list[tuple[str, str]] = []

    def remember(kid: str, value: str) -> bool:
        seen.append((kid, value))
        return False

    Post({**headers, **added}, body=body).verify(now=float(created), nonce_seen=remember)
    assert seen == [("merchant-1", nonce)]


@pytest.mark.parametrize(
    ("method", "url"),
    [
        ("PUT", URL),
        ("POST", URL + "&x=1"),
        ("POST", URL.replace("https", "http")),
        ("POST", URL.replace("bank.example", "bank.example:443")),
        ("POST", URL.replace("bank", "BANK")),
    ],
)
def test_another_method_or_address_is_a_signature_mismatch_that_speaks_of_proxies(method: str, url: str) -> None:
    error = evolve(signed_request(), method=method, url=url).refused()
    assert error.reason == "signature_mismatch"
    assert error.hint is not None
    assert "public address" in error.hint


def test_one_changed_byte_of_the_body_is_a_digest_mismatch() -> None:
    error = evolve(signed_request(), body=BODY.replace(b"14100", b"14101")).refused()
    assert (error.reason, error.hint) == ("digest_mismatch", None)


def test_a_right_digest_under_a_signature_over_another_body_is_a_signature_mismatch() -> None:
    other = b'{"reference":"A1","units":"1"}'
    post = evolve(signed_request().with_headers(content_digest=content_digest(other)), body=other)
    assert post.refused().reason == "signature_mismatch"


def test_a_digest_mismatch_says_when_the_body_was_written_anew_or_is_empty() -> None:
    error = evolve(signed_request(), body=json.dumps(json.loads(BODY), indent=2).encode()).refused()
    assert error.hint is not None
    assert "spelt differently" in error.hint
    error = evolve(signed_request(), body=b"").refused()
    assert error.hint is not None
    assert "empty" in error.hint


@pytest.mark.parametrize("name", ["content-type", "idempotency-key"])
def test_a_signed_header_that_changed_is_a_mismatch_and_one_that_is_gone_is_named(name: str) -> None:
    post = signed_request()
    assert post.with_headers(**{name: "text/plain"}).refused().reason == "signature_mismatch"
    error = post.with_headers(**{name: None}).refused()
    assert error.reason == "header_missing"
    assert name in str(error)


@pytest.mark.parametrize("name", ["signature", "signature-input", "content-digest"])
def test_a_signature_header_that_was_stripped_is_named(name: str) -> None:
    error = signed_request().with_headers(**{name: None}).refused()
    assert error.reason == "header_missing"
    assert name in str(error)
    assert error.hint is not None
    assert "proxy" in error.hint


def test_an_idempotency_key_added_on_the_way_is_not_covered() -> None:
    post = signed_request(headers={"content-type": "application/json"})
    assert post.with_headers(idempotency_key="mine").refused().reason == "components_missing"


@pytest.mark.parametrize("name", ["signature", "signature-input", "content-digest", "content-type", "idempotency-key"])
def test_a_repeated_header_merged_by_a_server_is_refused_by_its_grammar(name: str) -> None:
    post = signed_request()
    for comma in (",", ", "):
        merged = post.headers[name] + comma + post.headers[name]
        assert post.with_headers(**{name: merged}).refused().reason == "header_malformed"


def test_a_header_that_stands_twice_in_two_cases_is_refused() -> None:
    post = signed_request()
    twice = evolve(post, headers={**post.headers, "Signature": post.headers["signature"]})
    assert twice.refused().reason == "header_malformed"


def test_more_than_one_signature_or_another_label_is_refused() -> None:
    post = signed_request()
    signature = post.headers["signature"]
    second = post.headers["signature-input"].replace("sig1", "sig2")
    both = post.with_headers(
        signature=f"{signature}, {signature.replace('sig1', 'sig2')}",
        signature_input=f"{post.headers['signature-input']}, {second}",
    )
    assert both.refused().reason == "header_malformed"
    assert post.with_headers(signature=signature.replace("sig1", "sig2")).refused().reason == "header_malformed"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("signature", "sig1=:not base64:"),
        ("signature", "sig1=:QR==:"),
        ("signature", 'sig1="QQ=="'),
        ("signature", "sig1=(:QQ==:)"),
        ("signature-input", 'sig1="@method"'),
        ("signature-input", "sig1"),
        ("signature-input", 'sig1=("@method"'),
        ("content-digest", "md5=:QQ==:"),
        ("content-digest", 'sha-256="x"'),
        ("content-digest", "sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPF=:"),
    ],
)
def test_a_malformed_signature_header_is_refused(name: str, value: str) -> None:
    assert signed_request().with_headers(**{name: value}).refused().reason == "header_malformed"


def test_a_digest_of_our_kind_must_fit_whatever_stands_beside_it() -> None:
    good = content_digest(BODY)
    both = f"{good}, sha-512=:{encode_standard(bytes(64))}:"
    assert signed_request().with_headers(content_digest=both).refused().reason == "digest_mismatch"
    assert signed_request().with_headers(content_digest=f"{good}, md5=:QQ==:").refused().reason == "signature_mismatch"


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ('"@method" ', "", "components_missing"),
        ('"@target-uri" ', "", "components_missing"),
        ('"content-digest" ', "", "components_missing"),
        ('"content-type" ', "", "components_missing"),
        (' "idempotency-key"', "", "components_missing"),
        ('"@method"', '"@method";req', "components_missing"),
        ('"@method"', '"@method" "@method"', "header_malformed"),
        ('"@method"', '"@method" "@method";req', "component_unknown"),
        ('"@method"', '"@method" "@status"', "component_unknown"),
        ('"@method"', '"@method" "@request-target"', "component_unknown"),
        ('"@method"', '"@method" "content-type";sf', "component_unknown"),
        ('"@method"', '"@method" "Date"', "component_unknown"),
        ('"@method"', '"@method" 1', "component_unknown"),
        ('"@method"', '"@method" "date"', "header_missing"),
        (f";created={CREATED}", "", "components_missing"),
        (f";created={CREATED}", f';created="{CREATED}"', "components_missing"),
        (f";created={CREATED}", f";created={CREATED + 1}", "signature_mismatch"),
        (';nonce="n-1"', "", "components_missing"),
        (';nonce="n-1"', ';nonce=""', "components_missing"),
        (';nonce="n-1"', ";nonce=1", "components_missing"),
        (';nonce="n-1"', ';nonce="n-2"', "signature_mismatch"),
        (';keyid="merchant-1"', "", "components_missing"),
        (';keyid="merchant-1"', ';keyid="other"', "key_unknown"),
        (';keyid="merchant-1"', ';keyid="merchant-2"', "algorithm_mismatch"),
        (';alg="ed25519"', "", "components_missing"),
        (';alg="ed25519"', ';alg="hmac-sha256"', "algorithm_not_allowed"),
        (';alg="ed25519"', ';alg="rsa-v1_5-sha256"', "algorithm_not_allowed"),
        (';alg="ed25519"', ';alg="none"', "algorithm_not_allowed"),
        (';alg="ed25519"', ';alg="ecdsa-p256-sha256"', "algorithm_mismatch"),
        (';alg="ed25519"', f';alg="ed25519";expires={CREATED - 999}', "too_old"),
        (';alg="ed25519"', f';alg="ed25519";expires={CREATED + 60}', "signature_mismatch"),
    ],
)
def test_what_the_signature_must_cover_and_say_is_demanded(old: str, new: str, reason: str) -> None:
    post = signed_request()
    assert old in post.headers["signature-input"]
    assert input_replaced(post, old, new).refused().reason == reason


def always(key: VerificationKey) -> http_signatures.KeySource:
    return lambda _: key


def test_a_key_is_refused_when_revoked_or_retired_and_by_whoever_finds_it() -> None:
    moment = datetime.fromtimestamp(CREATED, UTC)
    post = signed_request()
    revoked = MERCHANT.verification_key(revoked=True, revoked_at=moment)
    retired = MERCHANT.verification_key(retired_at=moment)
    for key, reason in ((revoked, "key_revoked"), (retired, "key_retired")):
        assert post.refused(KeySet((key,))).reason == reason
        assert post.refused(always(key)).reason == reason

    def find_none(kid: str) -> VerificationKey:
        raise NotGenuine("key_unknown", f"No key {kid}.")

    assert post.refused(find_none).reason == "key_unknown"
    impostor = SigningKey.generate(Algorithm.ED25519, "merchant-1")
    assert signed_request(impostor).refused().reason == "signature_mismatch"


@pytest.mark.parametrize(
    ("offset", "reason", "said"),
    [
        (420, "too_old", "420 s before our time (300 s are allowed)"),
        (420, "too_old", "our clock is ahead of the signer's by up to 420 s"),
        (-420, "in_the_future", "our clock is behind the signer's by at least 420 s"),
    ],
)
def test_a_clock_that_is_off_is_told_by_how_much_and_in_which_direction(offset: int, reason: str, said: str) -> None:
    error = signed_request().refused(now=CREATED + offset + 0.2)
    assert error.reason == reason
    assert said in str(error)
    for now, skew in ((CREATED + offset, 500), (CREATED + 300, 300), (CREATED - 300, 300)):
        assert signed_request().verify(now=now, skew=skew).kid == "merchant-1"


def test_a_nonce_is_remembered_only_once_digest_and_signature_have_verified() -> None:
    seen: set[tuple[str, str]] = set()

    def nonce_seen(kid: str, nonce: str) -> bool:
        known = (kid, nonce) in seen
        seen.add((kid, nonce))
        return known

    post = signed_request()
    for broken in (evolve(post, body=b"{}"), evolve(post, method="PUT"), post.with_headers(content_type="text/plain")):
        broken.refused(nonce_seen=nonce_seen)
    post.refused(now=CREATED + 999, nonce_seen=nonce_seen)
    assert seen == set()
    assert post.verify(nonce_seen=nonce_seen).kid == "merchant-1"
    assert post.refused(nonce_seen=nonce_seen).reason == "nonce_seen"
    assert signed_request(nonce="n-2").verify(nonce_seen=nonce_seen).kid == "merchant-1"


@pytest.mark.parametrize("value", ["application/json\r\nx: y", "application/jsön", "a\x00b"])
def test_a_header_that_could_not_be_sent_is_not_signed(value: str) -> None:
    with pytest.raises(InvalidInput) as error:
        signed_request(headers={"content-type": value})
    assert error.value.reason == "unsignable"


def test_what_cannot_be_signed_is_invalid_input(rs256: SigningKey) -> None:
    attempts: list[Callable[[], Post]] = [
        lambda: signed_request(rs256),
        lambda: signed_request(headers={}),
        lambda: signed_request(nonce="\n"),
    ]
    for attempt in attempts:
        with pytest.raises(InvalidInput) as error:
            attempt()
        assert error.value.reason == "unsignable"


ANSWER = b'{"id":"inv-1"}'


@frozen
class Answer:
    """An answer on its way back, with the request that its reader sent."""

    headers: dict[str, str]
    request: Post
    status: int = 201
    body: bytes = ANSWER

    def verify(self, keys: KeySet = BANK_KEYS, now: float = CREATED + 2.0) -> VerificationKey:
        return http_signatures.verify_answer(
            self.status,
            self.headers,
            self.body,
            request_method=self.request.method,
            request_url=self.request.url,
            request_headers=self.request.headers,
            keys=keys,
            now=now,
        )

    def refused(self, keys: KeySet = BANK_KEYS, now: float = CREATED + 2.0) -> NotGenuine:
        with pytest.raises(NotGenuine) as error:
            self.verify(keys, now)
        return error.value

    def with_headers(self, **changes: str | None) -> Answer:
        named = {name.replace("_", "-"): value for name, value in changes.items()}
        merged: dict[str, str | None] = {**self.headers, **named}
        return evolve(self, headers={name: value for name, value in merged.items() if value is not None})


def answer_to(request: Post, status: int = 201, body: bytes = ANSWER, key: SigningKey = BANK) -> Answer:
    headers = {"content-type": "application/json"}
    added = http_signatures.sign_answer(
        status, headers, body, request.method, request.url, request.headers, key, created=CREATED + 1
    )
    return Answer({**headers, **added}, request, status, body)


def test_an_answer_signs_status_body_and_the_request_it_answers() -> None:
    for request in (signed_request(), signed_request(method="GET", body=None, headers={})):
        answer = answer_to(request)
        assert answer.headers["signature-input"] == (
            'sig1=("@status" "content-digest" "@method";req "@target-uri";req "signature";req)'
            f';created={CREATED + 1};keyid="bank-answer-1";alg="ed25519";nonce="n-1"'
        )
        assert answer.verify().kid == "bank-answer-1"
    assert answer_to(signed_request(), 404, b"").verify().kid == "bank-answer-1"


def test_an_old_answer_replayed_to_a_new_request_is_told_as_such() -> None:
    old = answer_to(signed_request(nonce="n-1"), 404, b'{"type":"/problems/unknown_invoice"}')
    replayed = evolve(old, request=signed_request(nonce="n-2"))
    assert replayed.refused().reason == "replayed_answer"
    same_nonce_other_key = evolve(old, request=signed_request(MERCHANT_P256, nonce="n-1"))
    assert same_nonce_other_key.refused().reason == "signature_mismatch"


def test_an_answer_cannot_be_passed_off_under_another_nonce() -> None:
    answer = answer_to(signed_request(nonce="n-1"))
    moved = answer.with_headers(signature_input=answer.headers["signature-input"].replace("n-1", "n-2"))
    assert moved.refused().reason == "replayed_answer"
    assert evolve(moved, request=signed_request(nonce="n-2")).refused().reason == "signature_mismatch"


def test_a_changed_status_body_address_or_digest_is_refused() -> None:
    answer = answer_to(signed_request())
    assert evolve(answer, status=200).refused().reason == "signature_mismatch"
    assert evolve(answer, body=ANSWER + b" ").refused().reason == "digest_mismatch"
    assert evolve(answer, request=evolve(answer.request, url=URL + "1")).refused().reason == "signature_mismatch"
    other = answer.with_headers(content_digest=content_digest(b"{}"))
    assert evolve(other, body=b"{}").refused().reason == "signature_mismatch"


@pytest.mark.parametrize("name", ["signature", "signature-input", "content-digest"])
def test_an_answer_whose_signature_was_stripped_or_merged_is_refused(name: str) -> None:
    answer = answer_to(signed_request())
    assert answer.with_headers(**{name: None}).refused().reason == "header_missing"
    merged = f"{answer.headers[name]}, {answer.headers[name]}"
    assert answer.with_headers(**{name: merged}).refused().reason == "header_malformed"


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ('"@status" ', "", "components_missing"),
        ('"content-digest" ', "", "components_missing"),
        ('"@method";req ', "", "components_missing"),
        ('"@target-uri";req ', "", "components_missing"),
        (' "signature";req', "", "components_missing"),
        ('"signature";req', '"signature"', "components_missing"),
        ('"@status"', '"@status" "@method"', "component_unknown"),
        ('"@status"', '"@status" "@status";req', "component_unknown"),
        ('"@status"', '"@status" "content-type";tr', "component_unknown"),
        ('"@status"', '"@status" "date";req', "header_missing"),
        (';alg="ed25519"', "", "components_missing"),
        (';alg="ed25519"', ';alg="hmac-sha256"', "algorithm_not_allowed"),
        (';alg="ed25519"', ';alg="ecdsa-p256-sha256"', "algorithm_mismatch"),
        (';keyid="bank-answer-1"', ';keyid="other"', "key_unknown"),
        (f";created={CREATED + 1}", "", "components_missing"),
    ],
)
def test_what_an_answers_signature_must_cover_and_say_is_demanded(old: str, new: str, reason: str) -> None:
    answer = answer_to(signed_request())
    assert old in answer.headers["signature-input"]
    changed = answer.with_headers(signature_input=answer.headers["signature-input"].replace(old, new))
    assert changed.refused().reason == reason


def test_an_answer_needs_a_current_key_for_answers() -> None:
    answer = answer_to(signed_request())
    moment = datetime.fromtimestamp(CREATED, UTC)
    for key, reason in (
        (BANK.verification_key(purpose="statement"), "wrong_key_purpose"),
        (BANK.verification_key(), "wrong_key_purpose"),
        (BANK.verification_key(purpose="answer", retired_at=moment), "key_retired"),
        (BANK.verification_key(purpose="answer", revoked=True), "key_revoked"),
    ):
        assert answer.refused(KeySet((key,))).reason == reason


def test_an_answer_too_old_or_from_the_future_is_refused() -> None:
    answer = answer_to(signed_request())
    assert answer.refused(now=CREATED + 400.0).reason == "too_old"
    assert answer.refused(now=CREATED - 400.0).reason == "in_the_future"


def test_an_answer_to_an_unsigned_request_cannot_be_signed() -> None:
    with pytest.raises(InvalidInput) as error:
        answer_to(Post({"content-type": "application/json"}))
    assert error.value.reason == "unsignable"


def test_an_answer_to_a_request_whose_signature_input_is_broken_is_signed_all_the_same() -> None:
    request = signed_request().with_headers(signature_input="broken(")
    answer = answer_to(request, 401, b"{}")
    assert "nonce" not in answer.headers["signature-input"]
    assert answer.verify().kid == "bank-answer-1"
