"""Run the shop under waitress: ``python -m examples.flask_shop``.

SHOP_HOST (127.0.0.1) and SHOP_PORT (8000; 0 takes a free one) say where; the other settings are `create_app`'s and
the DEPOSIT_TOKEN_* ones, which ``deposit-token sandbox --env`` prints.
"""

from __future__ import annotations

import logging
import os
import secrets
import signal
import socket
import sys
from types import FrameType
from typing import TextIO

from waitress.server import create_server

from deposit_token_sdk import ConfigurationError
from examples.flask_shop import create_app


def main() -> int:
    logging.basicConfig(level=os.environ.get("SHOP_LOG", "WARNING"), format="%(levelname)s %(name)s: %(message)s")
    environ = dict(os.environ)
    with socket.create_server(
        (environ.get("SHOP_HOST", "127.0.0.1"), int(environ.get("SHOP_PORT", "8000"))), backlog=128
    ) as listening:
        host, port = listening.getsockname()[:2]
        address = environ.setdefault("SHOP_URL", f"http://{host}:{port}")
        made_up = "SHOP_ADMIN_PASSWORD" not in environ
        password = environ.setdefault("SHOP_ADMIN_PASSWORD", secrets.token_urlsafe(9))
        try:
            app = create_app(environ)
        except ConfigurationError as error:
            _say(f"The shop cannot start: {error}", sys.stderr)
            return 2
        server = create_server(app, sockets=[listening], threads=8)
        signal.signal(signal.SIGTERM, _stop)
        _say(f"shop open at {address}")
        if made_up:
            _say(f"admin at {address}/admin, password {password}")
        try:
            server.run()
        except (KeyboardInterrupt, SystemExit):
            server.close()
    return 0


def _say(line: str, where: TextIO | None = None) -> None:
    where = where or sys.stdout
    where.write(f"{line}\n")
    where.flush()


def _stop(signum: int, frame: FrameType | None) -> None:
    raise SystemExit(0)


if __name__ == "__main__":
    sys.exit(main())
