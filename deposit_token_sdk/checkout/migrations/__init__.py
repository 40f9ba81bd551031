"""The checkout's tables as Alembic revisions, for shops that migrate by Alembic.

A shop adds ``deposit_token_sdk.checkout:migrations/versions`` to its own ``version_locations``: the revisions are a
branch of their own, labelled ``deposit_token``, and ``alembic upgrade heads`` brings both up to date. A revision that
was released is never edited and imports nothing of the live tables; what changes there is a new revision here. That
both give the same tables is tested. Without Alembic, `SqlStore.create_schema` makes them in one call.
"""
