"""For the tests of those who build on this SDK: rehearse a call without a bank, and conformance suites.

`rehearse` runs an issuer's exchange on a list of replies; `testing.stores` is the suite that every store must pass
(import it from there: it needs pytest).
"""

from __future__ import annotations

from deposit_token_sdk.testing.rehearsal import Lost, Reply, rehearse

__all__ = ["Lost", "Reply", "rehearse"]
