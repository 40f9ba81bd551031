"""The bank as one object: books, web edge and webhook delivery, started and stopped together in this process.

The server stands on loopback only. Whatever it keeps lies in its data folder: the database, unless another is
named, and the merchants' private keys, each readable by its owner alone.
"""

from __future__ import annotations

import logging
import re
import socket
import threading
from collections.abc import Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from deposit_token_sdk.errors import ConfigurationError
from deposit_token_sdk.sandbox import bank as bank_room
from deposit_token_sdk.sandbox import dialects, keyring, tls
from deposit_token_sdk.sandbox.bank import DEMO_MERCHANT, Bank
from deposit_token_sdk.sandbox.control import Control
from deposit_token_sdk.sandbox.delivery import Delivery
from deposit_token_sdk.sandbox.desk import Desk, House
from deposit_token_sdk.sandbox.key_files import private_key
from deposit_token_sdk.signing.keys import Algorithm

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType
    from typing import Self

SHORT_SCHEDULE: Final = (0.0, 0.2, 1.0, 3.0, 10.0, 30.0, 60.0, 120.0)
"""Seconds before each try of a webhook. Standard Webhooks' own schedule spans hours; a sandbox is not that patient."""

_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_MERCHANT = re.compile(r"[a-z0-9][a-z0-9-]{0,39}", re.ASCII)
_THREADS = 16
_REFERENCE = "reference"
"""The bank's own API, beside its dialects."""


class Sandbox:
    """The sandbox bank. ``with Sandbox(folder) as bank:`` serves at ``bank.url`` until the block is left.

    `port` 0 takes a free one. `quote_life` is in seconds of business time. `require_signatures` False also takes
    unsigned requests, as the demo merchant's. `tls_port` opens a second door, with TLS, at ``bank.tls_url``, whose
    certificate is signed by what stands in ``bank.ca_file``. `durable` has each commit of an SQLite database written
    through, as a power cut would require; a killed process loses nothing either way. Raises ConfigurationError
    (``not_loopback``, ``bad_mode``).
    """

    def __init__(  # noqa: PLR0913 - a bank's settings, each with a default
        self,
        data: Path | str,
        database_url: str | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        mode: str = "test",
        issuer: str = "sandbox-bank",
        webhook_schedule: Sequence[float] = SHORT_SCHEDULE,
        *,
        quote_life: float = 900.0,
        require_signatures: bool = True,
        durable: bool = False,
        tls_port: int | None = None,
    ) -> None:
        if host not in _LOOPBACK:
            raise ConfigurationError("not_loopback", f"The sandbox serves on {', '.join(_LOOPBACK)}, not on {host!r}.")
        if mode not in ("test", "live"):
            raise ConfigurationError("bad_mode", f"A bank runs in mode test or live, not {mode!r}.")
        self._data = Path(data)
        self._database_url = database_url
        self._host = host
        self._port = port
        self._require_signatures = require_signatures
        self._durable = durable
        self._settings: dict[str, Any] = {
            "issuer": issuer,
            "mode": mode,
            "quote_life": timedelta(seconds=quote_life),
            "schedule": tuple(webhook_schedule) or (0.0,),
        }
        self._tls_port = tls_port
        self._door: tls.Door | None = None
        self._bank: Bank | None = None
        self._serving: _Serving | None = None

    @property
    def url(self) -> str:
        """The bank's address. Raises ConfigurationError (``no_port``) before a free port has been taken."""
        if not self._port:
            raise ConfigurationError("no_port", "The bank has no address yet: name a port, or start it first.")
        return f"http://{f'[{self._host}]' if ':' in self._host else self._host}:{self._port}"

    @property
    def tls_url(self) -> str:
        """The address of the door with TLS. Raises ConfigurationError (``no_port``) where there is none yet."""
        if not self._tls_port:
            raise ConfigurationError("no_port", "The bank has no door with TLS: name a tls_port, or start it first.")
        return f"https://{f'[{self._host}]' if ':' in self._host else self._host}:{self._tls_port}"

    @property
    def has_tls(self) -> bool:
        """Whether there is a door with TLS."""
        return self._tls_port is not None

    @property
    def ca_file(self) -> Path:
        """The certificate of the authority that has signed the one of the door with TLS."""
        return self._data.resolve() / tls.CA_FILE

    @property
    def control(self) -> Control:
        """Everything a test or a developer may want to happen; the same verbs as the control API's."""
        if self._bank is None:
            raise ConfigurationError("not_started", "Start the bank first.")
        return Control(self._bank, self._settled)

    def start(self) -> Sandbox:
        """Open the books, serve, and deliver webhooks; returns at once."""
        listening = socket.create_server((self._host, self._port), family=_family(self._host), backlog=256)
        self._port = listening.getsockname()[1]
        try:
            self._door = self._door_with_tls()
            bank = self._open()
            self._serving = _Serving(self._application(bank), listening)
        except BaseException:
            listening.close()
            self._shut_door()
            self._close()
            raise
        self._delivery = Delivery(bank)
        self._serving.start()
        if self._door is not None:
            self._door.start()
        self._delivery.start()
        return self

    def stop(self) -> None:
        """Stop serving and delivering, and close the books. Twice does no harm."""
        if self._serving is not None:
            if self._bank is not None:
                self._bank.hurry()
            self._shut_door()
            self._serving.stop()
            self._delivery.stop()
            self._serving = None
        self._close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def environment(self, webhook_url: str | None = None, dialect: str = _REFERENCE) -> dict[str, str]:
        """The settings of the demo merchant's shop; its webhooks go to `webhook_url` from now on, where given.

        With a `dialect` they are those for that bank's API, and its news is written in it from now on. Works before
        `start` too, where a port was named. Raises ConfigurationError (``dialect_unknown``).
        """
        with self._books():
            return self._settled(DEMO_MERCHANT, "Demo Shop", webhook_url, dialect)

    def _settled(self, merchant: str, name: str, webhook_url: str | None, dialect: str) -> dict[str, str]:
        """The settings of a merchant's shop in that dialect."""
        bank = self._bank
        if bank is None:
            raise ConfigurationError("not_started", "Start the bank first.")
        with bank.desk() as desk:
            told = self._enrol(desk, merchant, name, webhook_url)
            if self._tls_port is not None and dialect != _REFERENCE:
                told |= {"DEPOSIT_TOKEN_URL": self.tls_url, "DEPOSIT_TOKEN_CA_BUNDLE": str(self.ca_file)}
            return dialects.environment(dialect, desk, bank, self._data, told)

    def _door_with_tls(self) -> tls.Door | None:
        if self._tls_port is None:
            return None
        self._data.mkdir(mode=0o700, parents=True, exist_ok=True)
        certified = tls.context(self._data)
        listening = socket.create_server((self._host, self._tls_port), family=_family(self._host), backlog=256)
        self._tls_port = listening.getsockname()[1]
        return tls.Door(listening, (self._host, self._port), certified)

    def _shut_door(self) -> None:
        if self._door is not None:
            self._door.stop()
            self._door = None

    @contextmanager
    def _books(self) -> Iterator[None]:
        """The books, open: those of the running bank, or opened for the moment."""
        if self._bank is not None:
            yield
            return
        self._open()
        try:
            yield
        finally:
            self._close()

    def _open(self) -> Bank:
        self._data.mkdir(mode=0o700, parents=True, exist_ok=True)
        database = self._database_url or f"sqlite:///{self._data.resolve() / 'bank.sqlite3'}"
        self._bank = Bank(database, House(address=self.url, **self._settings), durable=self._durable)
        with self._bank.desk() as desk:
            self._enrol(desk, DEMO_MERCHANT, "Demo Shop", None)
        return self._bank

    def _close(self) -> None:
        if self._bank is not None:
            self._bank.close()
            self._bank = None

    def _application(self, bank: Bank) -> Any:
        from deposit_token_sdk.sandbox import (  # noqa: PLC0415 - not needed for naming the settings alone
            approval,
            dashboard,
            remote,
            routing,
            web,
        )

        app = routing.Application(
            __name__, template_folder="pages", static_folder="pages/static", static_url_path="/static"
        )
        app.config["MAX_CONTENT_LENGTH"] = web.LARGEST_BODY
        web.Api(bank, self._require_signatures).mount(app)
        remote.mount(app, self.control)
        approval.Pages(bank).mount(app)
        dashboard.Dashboard(bank, self.control).mount(app)
        dialects.mount(app, bank)
        return web.Edge(app, self._names)

    def _names(self) -> frozenset[str]:
        """The Host headers this bank answers to."""
        names = ("127.0.0.1", "localhost", "[::1]")
        plain = frozenset(f"{name}:{self._port}" for name in names)
        if self._tls_port is None:
            return plain
        return plain | {f"{name}:{self._tls_port}" for name in names} | set(names)  # https has a port that goes unsaid

    def _enrol(self, desk: Desk, merchant: str, name: str, webhook_url: str | None) -> dict[str, str]:
        """Take a merchant on, with a key in the data folder, and return what its shop needs to know."""
        if not _MERCHANT.fullmatch(merchant):
            raise ConfigurationError("bad_merchant", f"{merchant[:60]!r}: 1 to 40 of a-z, 0-9 and the hyphen are due.")
        kid = f"{merchant}-1"
        path = self._data / f"{merchant}-signing-key.pem"
        key = private_key(path, Algorithm.ED25519, kid)
        bank_room.take_on(desk, merchant, name, key.verification_key(), webhook_url)
        signers = keyring.webhook_signers(desk.db, merchant)
        return {
            "DEPOSIT_TOKEN_ISSUER": "reference",
            "DEPOSIT_TOKEN_BANK": desk.house.issuer,
            "DEPOSIT_TOKEN_URL": self.url,
            "DEPOSIT_TOKEN_MERCHANT": merchant,
            "DEPOSIT_TOKEN_MODE": desk.house.mode,
            "DEPOSIT_TOKEN_SIGNING_KEY_FILE": str(path.resolve()),
            "DEPOSIT_TOKEN_SIGNING_KEY_ID": kid,
            "DEPOSIT_TOKEN_WEBHOOK_KEYS": " ".join(signer.public_text for signer in signers),
            "DEPOSIT_TOKEN_JWKS_URL": f"{self.url}/.well-known/jwks.json",
        }


class _Serving:
    """waitress in a thread of its own, on a socket that is listening already, stopped when asked."""

    def __init__(self, application: Any, listening: socket.socket) -> None:
        from waitress.server import create_server  # noqa: PLC0415 - as above

        from deposit_token_sdk.sandbox.header_names import Channel  # noqa: PLC0415 - as above

        logging.getLogger("waitress.queue").setLevel(logging.ERROR)
        self._channels: dict[int, Any] = {}
        server: Any = create_server(
            application,
            map=self._channels,
            sockets=[listening],
            threads=_THREADS,
            max_request_body_size=2 << 20,
            max_request_header_size=64 << 10,
            log_socket_errors=False,
            ident="deposit-token-sandbox",
            clear_untrusted_proxy_headers=True,
        )
        server.channel_class = Channel
        self._server = server
        self._stopping = threading.Event()
        self._closing = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="sandbox-server", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        with self._closing:  # or the server may be gone before it is woken
            self._stopping.set()
            self._server.pull_trigger()
        self._thread.join()

    def _run(self) -> None:
        from waitress import wasyncore  # noqa: PLC0415 - as above

        while not self._stopping.is_set():
            wasyncore.loop(timeout=1.0, map=self._channels, use_poll=True, count=1)
        with self._closing:
            self._server.task_dispatcher.shutdown()
            self._server.close()
            wasyncore.close_all(map=self._channels, ignore_all=True)


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET
