"""The published examples of the RFCs, which no mistake of ours can have shaped."""

from __future__ import annotations

import hmac
from hashlib import sha256

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from deposit_token_sdk.signing.base64url import decode_standard, decode_url, encode_standard, encode_url
from deposit_token_sdk.signing.http_signatures import content_digest
from deposit_token_sdk.signing.jws import detached_input
from deposit_token_sdk.signing.keys import Algorithm, SigningKey, VerificationKey
from deposit_token_sdk.signing.signature_base import Message, signature_base
from deposit_token_sdk.signing.structured_fields import InnerList, parse_dictionary

JOE = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ"
RSA_7515 = (
    "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZ"
    "S-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2"
    "R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcD"
    "TW9gb54h4FRWyuXpoQ"
)
RSA_7638 = (
    "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3"
    "oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdA"
    "ZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-"
    "kEgU8awapJzKnqDKgw"
)
HELLO_SHA512 = "sha-512=:WZDPaVn/7XgHaAy8pmojAkGWoRx2UFChF41A2svX+TaPm+AbwAgBWnrIiYllu7BNNyealdVLvRwEmTHWXvJwew==:"
REQUEST_9421 = Message(
    {
        "host": "example.com",
        "date": "Tue, 20 Apr 2021 02:07:55 GMT",
        "content-type": "application/json",
        "content-digest": HELLO_SHA512,
        "content-length": "18",
    },
    method="POST",
    url="https://example.com/foo?param=Value&Pet=dog",
)
ECC_9421 = {
    "kty": "EC",
    "crv": "P-256",
    "x": "qIVYZVLCrPZHGHjP17CTW0_-D9Lfw0EkjqF7xB4FivA",
    "y": "Mc4nN9LTDOBhfoUeg8Ye9WedFRhnZXZJA12Qp0zZ6F0",
}

PUBLISHED_BASE = """\
"date": Tue, 20 Apr 2021 02:07:55 GMT
"@method": POST
"@path": /foo
"@authority": example.com
"content-type": application/json
"content-length": 18
"@signature-params": ("date" "@method" "@path" "@authority" "content-type" "content-length")\
;created=1618884473;keyid="test-key-ed25519"\
""".split("\n")


def verification_key(algorithm: str, **members: str) -> VerificationKey:
    return VerificationKey.from_jwk({**members, "alg": algorithm, "use": "sig"})


def ed25519_from_seed(seed: str) -> SigningKey:
    private = Ed25519PrivateKey.from_private_bytes(decode_url(seed))
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return SigningKey.from_pem(pem, Algorithm.ED25519)


def covered(signature_input: str) -> InnerList:
    (inner,) = parse_dictionary(signature_input).values()
    assert isinstance(inner, InnerList)
    return inner


def test_rfc_7515_a_2_the_rs256_example_verifies() -> None:
    key = verification_key("RS256", kty="RSA", n=RSA_7515, e="AQAB")
    signature = decode_url(
        "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdb"
        "F9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383"
        "LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWy"
        "wlVmtVrBp0igcN_IoypGlUPQGe77Rw"
    )
    assert key.verify(signature, f"eyJhbGciOiJSUzI1NiJ9.{JOE}".encode())
    assert not key.verify(signature, f"eyJhbGciOiJSUzI1NiJ9.{JOE}x".encode())


def test_rfc_7515_a_3_the_es256_example_verifies_as_r_and_s() -> None:
    key = verification_key(
        "ES256",
        kty="EC",
        crv="P-256",
        x="f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
        y="x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
    )
    signature = decode_url("DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q")
    message = f"eyJhbGciOiJFUzI1NiJ9.{JOE}".encode()
    assert len(signature) == 64
    assert key.verify(signature, message)
    assert not key.verify(signature[:63], message)
    assert not key.verify(signature, message + b" ")


def test_rfc_7797_4_2_the_unencoded_detached_input_is_the_one_published() -> None:
    key = decode_url("AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow")
    message = detached_input("eyJhbGciOiJIUzI1NiIsImI2NCI6ZmFsc2UsImNyaXQiOlsiYjY0Il19", b"$.02")
    assert encode_url(hmac.digest(key, message, sha256)) == "A5dxf2s96_n5FLueVuW1Z_vh161FwXZC4YLPff6dmDY"


def test_rfc_8037_a_4_the_ed25519_example_is_signed_and_verified() -> None:
    message = b"eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc"
    expected = "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg"
    key = verification_key("EdDSA", kty="OKP", crv="Ed25519", x="11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo")
    signer = ed25519_from_seed("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A")
    assert key.verify(decode_url(expected), message)
    assert encode_url(signer.sign(message)) == expected
    assert signer.verification_key().thumbprint() == key.thumbprint()


def test_rfc_8037_a_3_and_rfc_7638_the_thumbprints_are_the_published_ones() -> None:
    okp = verification_key("Ed25519", kty="OKP", crv="Ed25519", x="11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo")
    rsa = verification_key("RS256", kty="RSA", n=RSA_7638, e="AQAB", kid="2011-04-29")
    assert okp.thumbprint() == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"
    assert okp.kid == okp.thumbprint()
    assert rsa.thumbprint() == "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"
    assert rsa.kid == "2011-04-29"


def test_rfc_9530_the_digests_are_the_published_ones() -> None:
    assert content_digest(b'{"hello": "world"}\n') == "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:"
    assert content_digest(b'{"hello": "world"}') == "sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:"


def test_rfc_9421_b_2_6_the_ed25519_request_has_the_published_base_and_signature() -> None:
    components = covered(
        'sig-b26=("date" "@method" "@path" "@authority" "content-type" "content-length")'
        ';created=1618884473;keyid="test-key-ed25519"'
    )
    base = signature_base(components, REQUEST_9421)
    assert base.decode().split("\n") == PUBLISHED_BASE
    signer = ed25519_from_seed("n4Ni-HpISpVObnQMW0wOhCKROaIKqKtW_2ZYb2p9KcU")
    published = "wqcAqbmYJ2ji2glfAMaRy4gruYYnx2nEFN2HN6jrnDnQCK1u02Gb04v9EDgwUPiu4A0w6vuQv5lIp5WPpBKRCw=="
    assert encode_standard(signer.sign(base)) == published
    key = verification_key("Ed25519", kty="OKP", crv="Ed25519", x="JrQLj5P_89iXES9-vFgrIy29clF9CC_oPPsw3c5D0bs")
    assert key.verify(decode_standard(published), base)


def test_rfc_9421_b_2_4_the_p256_answer_verifies() -> None:
    digest = "sha-512=:mEWXIS7MaLRuGgxOBdODa3xqM1XdEvxoYhvlCFJ41QJgJc4GTsPp29l5oGX69wWdXymyU0rjJuahq4l5aGgfLQ==:"
    headers = {"content-type": "application/json", "content-digest": digest, "content-length": "23"}
    components = covered(
        'sig-b24=("@status" "content-type" "content-digest" "content-length")'
        ';created=1618884473;keyid="test-key-ecc-p256"'
    )
    signature = decode_standard(
        "wNmSUAhwb5LxtOtOpNa6W5xj067m5hFrj0XQ4fvpaCLx0NKocgPquLgyahnzDnDAUy5eCdlYUEkLIj+32oiasw=="
    )
    key = verification_key("ES256", **ECC_9421)
    assert key.verify(signature, signature_base(components, Message(headers, status=200)))
    assert not key.verify(signature, signature_base(components, Message(headers, status=201)))


def test_rfc_9421_section_2_4_the_answer_bound_to_its_request_verifies() -> None:
    digest = "sha-512=:0Y6iCBzGg5rZtoXS95Ijz03mslf6KAMCloESHObfwnHJDbkkWWQz6PhhU9kxsTbARtY2PTBOzq24uJFpHsMuAg==:"
    headers = {"content-type": "application/json", "content-digest": digest, "content-length": "62"}
    components = covered(
        'reqres=("@status" "content-digest" "content-type" "@authority";req "@method";req "@path";req '
        '"content-digest";req);created=1618884479;keyid="test-key-ecc-p256"'
    )
    signature = decode_standard(
        "dMT/A/76ehrdBTD/2Xx8QuKV6FoyzEP/I9hdzKN8LQJLNgzU4W767HK05rx1i8meNQQgQPgQp8wq2ive3tV5Ag=="
    )
    key = verification_key("ES256", **ECC_9421)
    assert key.verify(signature, signature_base(components, Message(headers, status=503, request=REQUEST_9421)))
    other = Message(REQUEST_9421.headers, method="PUT", url=REQUEST_9421.url)
    assert not key.verify(signature, signature_base(components, Message(headers, status=503, request=other)))
