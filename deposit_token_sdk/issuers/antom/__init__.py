"""Antom (Ant International): payment by a session on its page, with a rate lock, over an API signed both ways.

`issuer` is the API's verbs, `options` the settings, `amounts` Antom's own table of minor units, `words` its statuses
and result codes with ours, `messages` what its signed messages say, live and as stored evidence.
"""

from __future__ import annotations

from deposit_token_sdk.issuers.antom.issuer import AntomIssuer

__all__ = ["AntomIssuer"]
