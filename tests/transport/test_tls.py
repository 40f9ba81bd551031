"""TLS with our own context: private authorities, mutual TLS, and nothing public beside a private one."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from deposit_token_sdk.errors import ConfigurationError
from deposit_token_sdk.exchange import NoAnswer, Request, Response, Sent
from deposit_token_sdk.transport import Transport


@frozen
class Authority:
    """A private certificate authority whose files lie in a folder."""

    folder: Path
    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @property
    def bundle(self) -> str:
        return str(self.folder / "ca.pem")

    def issue(self, name: str) -> tuple[str, str]:
        """Paths of a certificate for 127.0.0.1 and of its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = (
            builder(name, self.certificate.subject, key.public_key())
            .add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False)
            .sign(self.key, hashes.SHA256())
        )
        return write(self.folder, name, certificate, key)


def builder(name: str, issuer: x509.Name | None, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer or subject)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
    )


def write(folder: Path, name: str, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> tuple[str, str]:
    certificate_path, key_path = folder / f"{name}.pem", folder / f"{name}.key"
    certificate_path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return str(certificate_path), str(key_path)


def authority_in(folder: Path) -> Authority:
    key = ec.generate_private_key(ec.SECP256R1())
    usage = dict.fromkeys(
        (
            "digital_signature content_commitment key_encipherment data_encipherment key_agreement "
            "encipher_only decipher_only"
        ).split(),
        False,
    )
    certificate = (
        builder("authority", None, key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.KeyUsage(**usage, key_cert_sign=True, crl_sign=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    write(folder, "ca", certificate, key)
    return Authority(folder, key, certificate)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return authority_in(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def trusting(authority: Authority) -> Iterator[Transport]:
    with Transport(ca_bundle=authority.bundle, environ={}) as made:
        yield made


def server(authority: Authority, *, mutual: bool = False) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue("server"))
    if mutual:
        context.load_verify_locations(authority.bundle)
        context.verify_mode = ssl.CERT_REQUIRED
        context.maximum_version = ssl.TLSVersion.TLSv1_2
    return context


def ask(transport: Transport, url: str, deadline: float = 10) -> Response | NoAnswer:
    return transport.answer(Request("GET", f"{url}/x", "GET /x"), deadline)


def lost(answer: Response | NoAnswer) -> str:
    assert isinstance(answer, NoAnswer)
    assert answer.sent is Sent.MAYBE_PROCESSED
    return answer.problem


def test_a_bank_under_a_private_authority_is_believed_when_that_authority_is_set(
    authority: Authority, trusting: Transport, bank: Any, says: Callable[..., Any]
) -> None:
    private = bank(says(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"), server(authority))
    answer = ask(trusting, private.url)
    assert isinstance(answer, Response)
    assert answer.body == b"ok"


def test_a_bank_under_an_unknown_authority_gets_nothing(authority: Authority, transport: Transport, bank: Any) -> None:
    stranger = bank(lambda line: line.hear(), server(authority))
    assert "certificate verify failed" in lost(ask(transport, stranger.url))
    assert not stranger.heard


def test_a_certificate_for_another_name_is_refused(authority: Authority, trusting: Transport, bank: Any) -> None:
    named = bank(lambda line: line.hear(), server(authority))
    assert "TLS with the bank failed" in lost(ask(trusting, f"https://localhost:{named.port}"))


@pytest.mark.parametrize("name", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_the_environments_authorities_are_read_once(
    name: str, authority: Authority, bank: Any, says: Callable[..., Any]
) -> None:
    private = bank(says(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"), server(authority))
    environ = {name: authority.bundle}
    with Transport(environ=environ) as transport:
        environ.clear()
        assert isinstance(ask(transport, private.url), Response)


def test_a_private_authority_stands_alone_after_a_call_too(
    authority: Authority, trusting: Transport, bank: Any, says: Callable[..., Any]
) -> None:
    private = bank(says(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"), server(authority))
    assert isinstance(ask(trusting, private.url), Response)
    assert len(trusting.tls.get_ca_certs()) == 1


def test_a_call_goes_through_a_proxys_tunnel(authority: Authority, bank: Any, says: Callable[..., Any]) -> None:
    def pump(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)

    def script(line: Any) -> None:
        first, _, _ = line.hear()
        host, _, port = first.split(" ")[1].rpartition(":")
        with socket.create_connection((host, int(port))) as onward:
            line.say(b"HTTP/1.1 200 Connection established\r\n\r\n")
            back = threading.Thread(target=pump, args=(onward, line.sock))
            back.start()
            pump(line.sock, onward)
            onward.shutdown(socket.SHUT_RDWR)
            back.join()

    proxy = bank(script)
    private = bank(says(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"), server(authority))
    with Transport(ca_bundle=authority.bundle, environ={"https_proxy": proxy.url}) as transport:
        assert isinstance(ask(transport, private.url), Response)
    assert proxy.heard[0][0].startswith(f"CONNECT 127.0.0.1:{private.port} ")
    assert private.heard[0][0] == "GET /x HTTP/1.1"


def test_mutual_tls_shows_the_certificate(authority: Authority, bank: Any, says: Callable[..., Any]) -> None:
    strict = bank(says(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"), server(authority, mutual=True))
    certificate, key = authority.issue("merchant")
    with Transport(ca_bundle=authority.bundle, client_cert=certificate, client_key=key, environ={}) as shown:
        assert isinstance(ask(shown, strict.url), Response)


def test_without_the_certificate_mutual_tls_fails(authority: Authority, trusting: Transport, bank: Any) -> None:
    strict = bank(lambda line: line.hear(), server(authority, mutual=True))
    lost(ask(trusting, strict.url))
    assert not strict.heard


def test_a_handshake_that_never_ends_is_left_at_the_deadline(trusting: Transport, bank: Any) -> None:
    slow = bank(lambda line: line.drip(b"\x16\x03\x03\x40\x00" + b"\x02" * 16000))
    answer = ask(trusting, f"https://127.0.0.1:{slow.port}", 0.4)
    assert lost(answer)
    assert answer.elapsed < 1.4


def test_a_dripping_bank_is_left_at_the_deadline_over_tls_too(
    authority: Authority, trusting: Transport, bank: Any
) -> None:
    def script(line: Any) -> None:
        line.hear()
        line.say(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        line.drip(b"a")

    answer = ask(trusting, bank(script, server(authority)).url, 0.5)
    assert "no whole answer" in lost(answer)
    assert answer.elapsed < 1.5


def test_one_connection_serves_many_calls_over_tls(authority: Authority, trusting: Transport, bank: Any) -> None:
    def script(line: Any) -> None:
        while line.hear() is not None:
            line.say(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    private = bank(script, server(authority))
    assert all(isinstance(ask(trusting, private.url), Response) for _ in range(5))
    assert private.connections == 1


def test_files_that_cannot_be_used_are_named_at_once(authority: Authority, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Transport(ca_bundle=str(tmp_path / "none.pem"))
    assert caught.value.reason == "ca_bundle_unusable"
    certificate, _ = authority.issue("merchant")
    _, other = authority.issue("other")
    with pytest.raises(ConfigurationError) as caught:
        Transport(client_cert=certificate, client_key=other)
    assert caught.value.reason == "client_certificate_unusable"
    with pytest.raises(ConfigurationError) as caught:
        Transport(client_key=other)
    assert caught.value.reason == "client_certificate_unusable"
