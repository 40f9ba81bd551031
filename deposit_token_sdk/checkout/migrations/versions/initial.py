"""The checkout's tables as they were first released.

Revision ID: deposit_token_0001
Revises: nothing
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "deposit_token_0001"
down_revision = None
branch_labels = ("deposit_token",)
depends_on = None

_NUMBER = sa.BigInteger().with_variant(sa.Integer, "sqlite")
_TABLES = (
    "installation attempts refusals observations words movements intents refunds events evidence fulfilments reviews "
    "decisions outgoing seals leaves"
).split()


def _texts(columns: str) -> list[sa.Column[str]]:
    """Text columns: a word ending in ``?`` may be null."""
    return [sa.Column(word.rstrip("?"), sa.Text, nullable=word.endswith("?")) for word in columns.split()]


def _index(table: str, columns: list[str], where: str | None = None) -> None:
    """An index of all rows, or of those for which the condition holds."""
    name = f"ix_deposit_token_{table}_{'_'.join(columns)}"
    condition = None if where is None else sa.text(where)
    op.create_index(name, f"deposit_token_{table}", columns, sqlite_where=condition, postgresql_where=condition)


def upgrade() -> None:
    """Create the tables and their indexes."""
    _payments()
    _news()
    _doubts_and_work()
    _seals()


def downgrade() -> None:
    """Drop the tables, with every payment, refund and proof in them."""
    for table in reversed(_TABLES):
        op.drop_table(f"deposit_token_{table}")


def _payments() -> None:
    """What the shop asked for, and how far it has come."""
    op.create_table(
        "deposit_token_installation",
        *_texts("slot id"),
        sa.PrimaryKeyConstraint("slot", name="pk_deposit_token_installation"),
    )
    op.create_table(
        "deposit_token_attempts",
        sa.Column("number", _NUMBER, nullable=False),
        *_texts(
            "reference order_id live_order? issuer token price content bearer capture buyer_country "
            "return_url created_at ruling? quote? statement? invoice? pay_url? instructions? ended? due_at?"
        ),
        sa.PrimaryKeyConstraint("number", name="pk_deposit_token_attempts"),
        sa.UniqueConstraint("reference", name="uq_deposit_token_attempts_reference"),
        sa.UniqueConstraint("live_order", name="uq_deposit_token_attempts_live_order"),
    )
    _index("attempts", ["due_at"], where="due_at IS NOT NULL")
    _index("attempts", ["order_id"])
    op.create_table(
        "deposit_token_refusals",
        *_texts("order_id token buyer_country reason ruling at"),
        sa.PrimaryKeyConstraint("order_id", "token", "buyer_country", "reason", name="pk_deposit_token_refusals"),
    )
    _index("refusals", ["at"])
    op.create_table(
        "deposit_token_observations",
        *_texts("reference movement stage units accepted_at"),
        sa.PrimaryKeyConstraint(
            "reference", "movement", "stage", "units", "accepted_at", name="pk_deposit_token_observations"
        ),
    )
    op.create_table(
        "deposit_token_words",
        *_texts("reference word"),
        sa.PrimaryKeyConstraint("reference", "word", name="pk_deposit_token_words"),
    )
    op.create_table(
        "deposit_token_movements",
        *_texts("issuer movement reference"),
        sa.PrimaryKeyConstraint("issuer", "movement", name="pk_deposit_token_movements"),
    )
    op.create_table(
        "deposit_token_intents",
        *_texts("verb subject attempt keys made_at answered_at? outcome?"),
        sa.PrimaryKeyConstraint("verb", "subject", name="pk_deposit_token_intents"),
    )
    _index("intents", ["attempt"])
    _index("intents", ["made_at"], where="answered_at IS NULL")
    op.create_table(
        "deposit_token_refunds",
        sa.Column("number", _NUMBER, nullable=False),
        *_texts("reference attempt request units price? stage bank_id? created_at"),
        sa.PrimaryKeyConstraint("number", name="pk_deposit_token_refunds"),
        sa.UniqueConstraint("reference", name="uq_deposit_token_refunds_reference"),
        sa.UniqueConstraint("request", name="uq_deposit_token_refunds_request"),
    )
    _index("refunds", ["attempt"])


def _news() -> None:
    """What banks said, what proves it, and which orders are paid by it."""
    op.create_table(
        "deposit_token_events",
        *_texts("issuer key digest reference received_at body outcome?"),
        sa.Column("sealed", _NUMBER),
        sa.PrimaryKeyConstraint("issuer", "key", name="pk_deposit_token_events"),
    )
    _index("events", ["issuer", "received_at"])
    _index("events", ["sealed"], where="sealed IS NULL")
    op.create_table(
        "deposit_token_evidence",
        sa.Column("number", _NUMBER, nullable=False),
        *_texts(
            "attempt digest kind proof content keys at issuer merchant installation mode invoice reference "
            "token quote_digest? movement units accepted_at issued_at of? refund_reference?"
        ),
        sa.Column("sealed", _NUMBER),
        sa.PrimaryKeyConstraint("number", name="pk_deposit_token_evidence"),
        sa.UniqueConstraint(
            "attempt", "digest", "kind", "movement", name="uq_deposit_token_evidence_attempt_digest_kind_movement"
        ),
    )
    _index("evidence", ["accepted_at"])
    _index("evidence", ["sealed"], where="sealed IS NULL")
    op.create_table(
        "deposit_token_fulfilments",
        *_texts("order_id reference at"),
        sa.Column("sealed", _NUMBER),
        sa.PrimaryKeyConstraint("order_id", name="pk_deposit_token_fulfilments"),
    )
    _index("fulfilments", ["sealed"], where="sealed IS NULL")


def _doubts_and_work() -> None:
    """What waits for a person, what was decided, and what is to go out."""
    op.create_table(
        "deposit_token_reviews",
        sa.Column("number", _NUMBER, nullable=False),
        *_texts("order_id reference reason subject detail opened_at"),
        sa.Column("sealed", _NUMBER),
        sa.PrimaryKeyConstraint("number", name="pk_deposit_token_reviews"),
        sa.UniqueConstraint("reference", "reason", "subject", name="uq_deposit_token_reviews_reference_reason_subject"),
    )
    _index("reviews", ["order_id"])
    _index("reviews", ["sealed"], where="sealed IS NULL")
    op.create_table(
        "deposit_token_decisions",
        sa.Column("review", _NUMBER, nullable=False, autoincrement=False),
        *_texts("verdict by note at refund?"),
        sa.Column("sealed", _NUMBER),
        sa.PrimaryKeyConstraint("review", name="pk_deposit_token_decisions"),
    )
    _index("decisions", ["sealed"], where="sealed IS NULL")
    op.create_table(
        "deposit_token_outgoing",
        *_texts("key topic payload order_id made_at due_at tries error? sent_at? dead_at?"),
        sa.PrimaryKeyConstraint("key", name="pk_deposit_token_outgoing"),
    )
    _index("outgoing", ["dead_at"], where="dead_at IS NOT NULL")
    _index("outgoing", ["due_at"], where="sent_at IS NULL AND dead_at IS NULL")


def _seals() -> None:
    """What shows that none of it was altered or removed."""
    op.create_table(
        "deposit_token_seals",
        *_texts("head statement? keys?"),
        sa.Column("number", _NUMBER, nullable=False, autoincrement=False),
        sa.PrimaryKeyConstraint("number", name="pk_deposit_token_seals"),
    )
    op.create_table(
        "deposit_token_leaves",
        *_texts("source key salt hash body_salt? body_digest? erased_at?"),
        sa.Column("seal", _NUMBER, nullable=False),
        sa.PrimaryKeyConstraint("source", "key", name="pk_deposit_token_leaves"),
    )
    _index("leaves", ["seal"])
