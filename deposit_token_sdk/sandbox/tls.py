"""TLS in front of the bank: a certificate of its own making, and a door that hands on what it has deciphered.

Banks' clients dial https and verify it. The certificate is for this machine's own names, signed by an authority whose
certificate lies in the data folder (`ca_file`): make it trusted there and nowhere else. The door decides nothing.
"""

from __future__ import annotations

import logging
import select
import socket
import ssl
import threading
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from deposit_token_sdk.sandbox.key_files import write_privately

CA_FILE, CERTIFICATE_FILE, KEY_FILE = "tls-ca.pem", "tls-certificate.pem", "tls-key.pem"
NAMES: Final = ("localhost", "127.0.0.1", "::1")
_LIFE: Final = timedelta(days=30)
_PIECE: Final = 65536
_PATIENCE: Final = 120.0
_LOG = logging.getLogger("deposit_token_sdk.sandbox")


def context(folder: Path) -> ssl.SSLContext:
    """The server's side of TLS, with the certificate in that folder; made anew where there is none, or an old one."""
    if not _serves(folder / CERTIFICATE_FILE):
        _make(folder)
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    made.load_cert_chain(folder / CERTIFICATE_FILE, folder / KEY_FILE)
    return made


def _serves(certificate: Path) -> bool:
    try:
        until = x509.load_pem_x509_certificate(certificate.read_bytes()).not_valid_after_utc
    except FileNotFoundError:
        return False
    return until > datetime.now(UTC) + timedelta(days=1)


def _make(folder: Path) -> None:
    """An authority and a certificate. The authority's key is thrown away: it signs nothing else."""
    authority, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    issuer = _name("deposit-token sandbox authority")
    root = (
        _builder(issuer, issuer, authority.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(certificates=True), critical=True)
        .sign(authority, SHA256())
    )
    names = [x509.DNSName(name) if name == "localhost" else x509.IPAddress(ip_address(name)) for name in NAMES]
    certificate = (
        _builder(_name("deposit-token sandbox"), issuer, key.public_key())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.public_key()), critical=False)
        .sign(authority, SHA256())
    )
    for file in (CA_FILE, CERTIFICATE_FILE, KEY_FILE):
        (folder / file).unlink(missing_ok=True)
    write_privately(folder / KEY_FILE, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    (folder / CA_FILE).write_bytes(root.public_bytes(Encoding.PEM))
    (folder / CERTIFICATE_FILE).write_bytes(certificate.public_bytes(Encoding.PEM))


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + _LIFE)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _usage(*, certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not certificates,
        key_cert_sign=certificates,
        crl_sign=certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


class Door:
    """Listens with TLS and hands each connection on to `target`, a port on this machine that speaks plain HTTP."""

    def __init__(self, listening: socket.socket, target: tuple[str, int], tls: ssl.SSLContext) -> None:
        self._listening = listening
        self._target = target
        self._tls = tls
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._stopping = False
        self._thread = threading.Thread(target=self._accept, name="sandbox-tls", daemon=True)

    def start(self) -> None:
        """Begin to accept; returns at once."""
        self._thread.start()

    def stop(self) -> None:
        """Close the door and every connection through it."""
        self._stopping = True
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        with self._lock:
            still = list(self._open)
        for line in still:
            with suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)
        if self._thread.is_alive():
            self._thread.join()

    def _accept(self) -> None:
        while not self._stopping:
            try:
                line, _ = self._listening.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(line,), name="sandbox-tls-line", daemon=True).start()

    def _serve(self, line: socket.socket) -> None:
        try:
            line.settimeout(_PATIENCE)
            with (
                self._tls.wrap_socket(line, server_side=True) as outer,
                socket.create_connection(self._target, timeout=_PATIENCE) as inner,
            ):
                with self._lock:
                    self._open |= {outer, inner}
                try:
                    _hand_on(outer, inner)
                finally:
                    with self._lock:
                        self._open -= {outer, inner}
        except OSError as error:  # a client that does not trust us, a connection cut on demand: all in a day's work
            _LOG.debug("A TLS connection ended: %s", error)


def _hand_on(outer: ssl.SSLSocket, inner: socket.socket) -> None:
    """Bytes both ways until either side has ended."""
    while True:
        ready = [outer] if outer.pending() else select.select([outer, inner], [], [], _PATIENCE)[0]
        if not ready:
            return
        for source in ready:
            piece = source.recv(_PIECE)
            if not piece:
                return
            (inner if source is outer else outer).sendall(piece)
