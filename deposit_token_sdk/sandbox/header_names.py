"""waitress, but for the names of headers: they go out as the application wrote them.

waitress capitalises every name. HTTP does not care, yet some banks' own clients do: Ant's reads ``signature`` and not
``Signature``.
"""

from __future__ import annotations

from waitress.channel import HTTPChannel
from waitress.task import WSGITask


class Task(WSGITask):
    """Writes the head of an answer."""

    def build_response_header(self) -> bytes:
        written_small = {name.encode("latin-1") for name, _ in self.response_headers if name.islower()}
        head: bytes = super().build_response_header()
        return b"\r\n".join(_with_name(line, written_small) for line in head.split(b"\r\n"))


class Channel(HTTPChannel):
    """A connection whose answers are written so."""

    task_class = Task


def _with_name(line: bytes, written_small: set[bytes]) -> bytes:
    name, colon, value = line.partition(b":")
    return name.lower() + colon + value if name.lower() in written_small else line
