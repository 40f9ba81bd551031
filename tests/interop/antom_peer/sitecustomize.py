"""On the path of Ant's client alone: what it dials at port 443 goes to the port that the test names. Nothing else."""

from __future__ import annotations

import os
import socket
from typing import Any

_dial = socket.create_connection


def _redirected(address: tuple[str, int], *args: Any, **more: Any) -> socket.socket:
    host, port = address
    return _dial((host, int(os.environ["DIALECT_PORT"]) if port == 443 else port), *args, **more)


socket.create_connection = _redirected  # type: ignore[assignment]
