"""What holds for every test: random examples are bounded in number, never by the clock of a busy machine."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("project", deadline=None)
settings.load_profile("project")
