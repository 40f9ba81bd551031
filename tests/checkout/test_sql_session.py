"""SqlStore in the shop's own session: what it refuses there, what it lets pass, and what hooks may do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import pytest
import sqlalchemy as sa
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, scoped_session, sessionmaker

from deposit_token_sdk.checkout.sql import SqlStore, prepare_sqlite
from deposit_token_sdk.checkout.store import Tx
from deposit_token_sdk.errors import ConfigurationError, NotAllowed
from deposit_token_sdk.testing.values import NOON, a_message, an_attempt, an_outgoing
from tests.databases import ON_BOTH, address

pytestmark = ON_BOTH
Shared: TypeAlias = scoped_session[Any]


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "shop_orders"
    id: Mapped[str] = mapped_column(primary_key=True)
    status: Mapped[str]


@pytest.fixture
def engine(database: sa.Engine) -> sa.Engine:
    Base.metadata.create_all(database)
    with Session(database) as session, session.begin():
        session.add(Order(id="A-1", status="open"))
    return database


@pytest.fixture
def beginning(engine: sa.Engine) -> sa.Engine:
    """An engine whose transactions begin with BEGIN and not with the first write, as shops that use savepoints do."""
    engine.dispose()
    if engine.dialect.name == "sqlite":
        sa.event.listen(engine, "connect", lambda connection, _: setattr(connection, "isolation_level", None))
        sa.event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))
    return engine


@pytest.fixture(params=["scoped_session", "Flask-SQLAlchemy"])
def shared(request: pytest.FixtureRequest, engine: sa.Engine) -> Iterator[Shared]:
    """The shop's session as two kinds of shop have it."""
    if request.param == "scoped_session":
        plain = scoped_session(sessionmaker(engine))
        yield plain
        plain.remove()
        return
    app = Flask("shop")
    app.config["SQLALCHEMY_DATABASE_URI"] = address(engine)
    db = SQLAlchemy(app)
    with app.app_context():
        prepare_sqlite(db.engine)
        yield db.session
        db.session.remove()
        db.engine.dispose()


@pytest.fixture
def store(shared: Shared) -> SqlStore:
    store = SqlStore(shared)
    with store.begin():  # its first use, at which it looks at the engine's settings
        pass
    return store


def status_in(engine: sa.Engine, order_id: str = "A-1") -> str | None:
    """What another connection sees."""
    with engine.connect() as connection:
        return connection.execute(sa.select(Order.status).where(Order.id == order_id)).scalar()


def place(session: Any, order_id: str) -> None:
    session.add(Order(id=order_id, status="paid"))
    session.flush()


# --- what SqlStore takes ------------------------------------------------------------------------------------------


def test_anything_but_the_shops_session_factory_is_refused_naming_what_to_pass(engine: sa.Engine) -> None:
    with engine.connect() as connection, Session(engine) as session:
        registry: Any = scoped_session(lambda: session)  # type: ignore[arg-type]
        everything_else: list[Any] = [engine, connection, session, SQLAlchemy(), registry, "sqlite://", None]
        for wrong in everything_else:
            with pytest.raises(ConfigurationError, match=r"sessionmaker or scoped_session.*db\.session") as refused:
                SqlStore(wrong)
            assert refused.value.reason == "sessions"


# --- one transaction with the shop --------------------------------------------------------------------------------


def test_what_the_shop_writes_in_its_session_is_committed_with_the_checkouts(
    store: SqlStore, shared: Shared, engine: sa.Engine
) -> None:
    with store.begin() as tx:
        assert tx.claim(a_message()) is None
        assert tx.session is shared()
        shared.get_one(Order, "A-1").status = "paid"
        assert status_in(engine) == "open"
    assert status_in(engine) == "paid"


def test_what_the_shop_writes_in_its_session_is_lost_with_the_checkouts(
    store: SqlStore, shared: Shared, engine: sa.Engine
) -> None:
    def hook(tx: Tx) -> None:
        assert tx.add_attempt(an_attempt())
        place(shared, "A-2")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), store.begin() as tx:
        hook(tx)
    assert store.attempt("r1") is None
    assert status_in(engine, "A-2") is None
    shared.add(Order(id="A-2", status="open"))
    shared.commit()
    assert status_in(engine, "A-2") == "open"


def test_a_sessionmakers_hooks_write_through_the_session_they_are_given(engine: sa.Engine) -> None:
    store = SqlStore(sessionmaker(engine))
    with store.begin() as tx:
        assert tx.claim(a_message()) is None
        tx.session.get_one(Order, "A-1").status = "paid"
    assert status_in(engine) == "paid"


def test_the_shops_objects_stay_usable_after_the_checkout_has_committed(store: SqlStore, shared: Shared) -> None:
    order = shared.get_one(Order, "A-1")
    with store.begin() as tx:
        assert tx.add_attempt(an_attempt())
    assert order.status == "open"
    assert order in shared


def test_a_hook_may_use_savepoints(store: SqlStore, shared: Shared, engine: sa.Engine) -> None:
    with store.begin() as tx:
        tx.claim(a_message())
        inner = shared.begin_nested()
        place(shared, "A-2")
        inner.rollback()
        with shared.begin_nested():
            place(shared, "A-3")
    assert status_in(engine, "A-2") is None
    assert status_in(engine, "A-3") == "paid"


# --- uncommitted changes ------------------------------------------------------------------------------------------


def add(session: Any) -> None:
    session.add(Order(id="A-9", status="new"))


def add_and_flush(session: Any) -> None:
    add(session)
    session.flush()


def change(session: Any) -> None:
    session.get_one(Order, "A-1").status = "changed"


def delete(session: Any) -> None:
    session.delete(session.get_one(Order, "A-1"))


def insert(session: Any) -> None:
    session.execute(sa.insert(Order).values(id="A-9", status="new"))


def insert_returning_entities(session: Any) -> None:
    statement = sa.insert(Order).values(id="A-9", status="new").returning(Order)
    session.scalars(sa.select(Order).from_statement(statement)).all()


def update(session: Any) -> None:
    session.execute(sa.update(Order).values(status="changed"))


def write_as_text(session: Any) -> None:
    session.execute(sa.text("-- the order\nINSERT INTO shop_orders VALUES ('A-9', 'new')"))


def write_after_with(session: Any) -> None:
    session.execute(
        sa.text("WITH n AS (SELECT 'A-9' AS id) INSERT INTO shop_orders SELECT id, 'new' FROM n RETURNING id")
    )


def insert_in_bulk(session: Any) -> None:
    session.bulk_insert_mappings(Order, [{"id": "A-9", "status": "new"}])


def save_in_bulk(session: Any) -> None:
    session.bulk_save_objects([Order(id="A-9", status="new")])


def write_on_the_connection(session: Any) -> None:
    session.connection().execute(sa.insert(Order).values(id="A-9", status="new"))


def write_on_the_driver(session: Any) -> None:
    session.connection().exec_driver_sql("INSERT INTO shop_orders VALUES ('A-9', 'new')")


def write_in_a_savepoint(session: Any) -> None:
    with session.begin_nested():
        add(session)


WRITES = [
    add,
    add_and_flush,
    change,
    delete,
    insert,
    insert_returning_entities,
    update,
    write_as_text,
    insert_in_bulk,
    save_in_bulk,
    write_on_the_connection,
    write_on_the_driver,
]


def orders_in(engine: sa.Engine) -> list[tuple[str, str]]:
    with engine.connect() as connection:
        return [(row.id, row.status) for row in connection.execute(sa.select(Order).order_by(Order.id))]


@pytest.mark.parametrize("write", WRITES)
def test_changes_that_the_shop_has_not_committed_are_refused_and_kept(
    store: SqlStore, shared: Shared, engine: sa.Engine, write: Callable[[Any], None]
) -> None:
    before = orders_in(engine)
    write(shared)
    with pytest.raises(NotAllowed, match="Commit the order first") as refused, store.begin():
        pytest.fail("the block must not be entered")
    assert refused.value.reason == "uncommitted_changes"
    assert orders_in(engine) == before
    shared.commit()
    assert orders_in(engine) != before
    with store.begin() as tx:
        assert tx.claim(a_message()) is None


@pytest.mark.parametrize("write", WRITES)
def test_changes_that_the_shop_took_back_hinder_nothing(
    store: SqlStore, shared: Shared, engine: sa.Engine, write: Callable[[Any], None]
) -> None:
    before = orders_in(engine)
    write(shared)
    shared.rollback()
    with store.begin() as tx:
        assert tx.claim(a_message()) is None
    assert orders_in(engine) == before


@pytest.mark.parametrize("write", [*WRITES, write_after_with, write_in_a_savepoint])
def test_changes_are_refused_and_kept_where_the_shop_begins_explicitly(
    beginning: sa.Engine, write: Callable[[Any], None]
) -> None:
    shared = scoped_session(sessionmaker(beginning))
    store = SqlStore(shared)
    with store.begin():  # its first use, at which it looks at the engine's settings
        pass
    before = orders_in(beginning)
    write(shared)
    with pytest.raises(NotAllowed) as refused, store.begin():
        pytest.fail("the block must not be entered")
    assert refused.value.reason == "uncommitted_changes"
    assert orders_in(beginning) == before
    shared.commit()
    assert orders_in(beginning) != before
    shared.remove()


def test_an_open_savepoint_is_refused(store: SqlStore, shared: Shared) -> None:
    with shared.begin_nested(), pytest.raises(NotAllowed, match="savepoint") as refused, store.begin():
        pytest.fail("the block must not be entered")
    assert refused.value.reason == "uncommitted_changes"


def test_a_transaction_block_that_is_not_left_yet_is_refused(store: SqlStore, shared: Shared) -> None:
    with shared.begin():
        shared.get_one(Order, "A-1")
        with pytest.raises(NotAllowed, match="block that is not left") as refused, store.begin():
            pytest.fail("the block must not be entered")
    assert refused.value.reason == "uncommitted_changes"
    with store.begin() as tx:
        assert tx.claim(a_message()) is None


def test_a_transaction_older_than_the_store_is_refused_since_nobody_watched_it(shared: Shared) -> None:
    insert(shared)
    with pytest.raises(NotAllowed, match="before the SqlStore was made") as refused, SqlStore(shared).begin():
        pytest.fail("the block must not be entered")
    assert refused.value.reason == "uncommitted_changes"


def test_a_checkout_inside_a_hook_of_the_checkout_is_refused(store: SqlStore) -> None:
    with store.begin() as tx:
        assert tx.claim(a_message()) is None
        with pytest.raises(NotAllowed) as refused, store.begin():
            pytest.fail("the block must not be entered")
    assert refused.value.reason == "uncommitted_changes"


def test_two_stores_on_one_session_watch_it_alike(store: SqlStore, shared: Shared) -> None:
    second = SqlStore(shared)
    with second.begin() as tx:
        assert tx.claim(a_message()) is None
    insert(shared)
    for either in (store, second):
        with pytest.raises(NotAllowed), either.begin():
            pytest.fail("the block must not be entered")


# --- mere reads ---------------------------------------------------------------------------------------------------


def read_entities(session: Any) -> None:
    session.scalars(sa.select(Order)).all()


def read_one(session: Any) -> None:
    session.get(Order, "A-1")


def read_as_text(session: Any) -> None:
    session.execute(sa.text("/* who */ SELECT id -- what\nFROM shop_orders")).all()


def read_text_as_entities(session: Any) -> None:
    session.scalars(sa.select(Order).from_statement(sa.text("SELECT * FROM shop_orders"))).all()


def read_after_with(session: Any) -> None:
    session.execute(sa.text("WITH n AS (SELECT id FROM shop_orders) SELECT id FROM n")).all()


def read_a_setting(session: Any) -> None:
    on_sqlite = session.get_bind().dialect.name == "sqlite"
    session.execute(sa.text("PRAGMA foreign_keys" if on_sqlite else "SHOW work_mem")).all()


def read_on_the_connection(session: Any) -> None:
    session.connection().execute(sa.select(Order.id)).all()


def set_what_was_set(session: Any) -> None:
    order = session.get_one(Order, "A-1")
    order.status = str(order.status)


@pytest.mark.parametrize(
    "read",
    [
        read_entities,
        read_one,
        read_as_text,
        read_text_as_entities,
        read_after_with,
        read_a_setting,
        read_on_the_connection,
        set_what_was_set,
    ],
)
def test_what_the_shop_has_merely_read_hinders_nothing(
    store: SqlStore, shared: Shared, read: Callable[[Any], None]
) -> None:
    read(shared)
    with store.begin() as tx:
        assert tx.claim(a_message()) is None
    assert not shared().in_transaction()


def test_a_snapshot_that_the_shop_read_from_is_let_go_before_the_first_write(beginning: sa.Engine) -> None:
    shared = scoped_session(sessionmaker(beginning))
    store = SqlStore(shared)
    with store.begin():  # its first use, at which it looks at the engine's settings
        pass
    read_entities(shared)
    with Session(beginning) as other, other.begin():
        change(other)
    with store.begin() as tx:
        assert tx.claim(a_message()) is None
        assert shared.get_one(Order, "A-1").status == "changed"
    shared.remove()


def in_a_transaction(act: Callable[[Tx], object]) -> Callable[[SqlStore], object]:
    def run(store: SqlStore) -> None:
        with store.begin() as tx:
            act(tx)

    return run


FIRST: list[Callable[[SqlStore], object]] = [
    in_a_transaction(lambda tx: tx.claim(a_message())),
    in_a_transaction(lambda tx: tx.add_attempt(an_attempt())),
    in_a_transaction(lambda tx: tx.lock_attempt("r1")),
    in_a_transaction(lambda tx: tx.lock_order("A-1")),
    in_a_transaction(lambda tx: tx.fulfil("A-1", "r1", NOON)),
    in_a_transaction(lambda tx: tx.put(an_outgoing())),
    lambda store: store.take_due(NOON, NOON, 10),
    lambda store: store.take_outgoing(NOON, NOON, 10),
]


def test_the_first_statement_of_a_transaction_writes_or_locks(store: SqlStore, shared: Shared) -> None:
    statements: list[str] = []
    sa.event.listen(shared().get_bind(), "before_cursor_execute", lambda *told: statements.append(told[2]))
    for act in FIRST:
        read_one(shared)
        statements.clear()
        act(store)
        first = next(one for one in statements if "pg_current_xact_id" not in one)  # which belongs to the reads let go
        assert first.startswith(("INSERT", "UPDATE")) or "FOR UPDATE" in first


def test_reading_through_the_store_leaves_no_transaction_behind(store: SqlStore, shared: Shared) -> None:
    assert not shared().in_transaction()
    assert store.order("A-1").attempts == ()
    assert store.installation() == store.installation()
    assert not shared().in_transaction()


def test_reading_through_the_store_leaves_the_shops_unsaved_changes_as_they_are(
    store: SqlStore, shared: Shared, engine: sa.Engine
) -> None:
    store.installation()
    order = Order(id="A-2", status="open")
    shared.add(order)
    assert store.order("A-1").attempts == ()
    assert store.evidence("A-1") == ()
    assert order in shared.new
    shared.commit()
    assert status_in(engine, "A-2") == "open"


# --- hooks that end the transaction -------------------------------------------------------------------------------


def commit_and_go_on(session: Any) -> None:
    session.commit()
    session.get_one(Order, "A-1").status = "paid"


def claim_and_end(tx: Tx, end: Callable[[Any], None]) -> None:
    assert tx.claim(a_message()) is None
    end(tx.session)


ENDINGS: list[Callable[[Any], None]] = [
    lambda session: session.commit(),
    lambda session: session.rollback(),
    lambda session: session.close(),
    lambda session: session.connection().commit(),
    lambda session: session.connection().get_transaction().rollback(),
    commit_and_go_on,
]


@pytest.mark.parametrize("end", ENDINGS, ids=["commit", "rollback", "close", "its commit", "its rollback", "go on"])
def test_a_hook_that_ends_the_transaction_is_refused(
    store: SqlStore, shared: Shared, engine: sa.Engine, end: Callable[[Any], None]
) -> None:
    with pytest.raises(NotAllowed, match="Leave that to the checkout") as refused, store.begin() as tx:
        claim_and_end(tx, end)
    assert refused.value.reason == "hook_ended_transaction"
    assert status_in(engine) == "open"
    with store.begin() as tx:
        assert tx.add_attempt(an_attempt())
    assert store.attempt("r1") == an_attempt()


@pytest.mark.parametrize("end", ENDINGS, ids=["commit", "rollback", "close", "its commit", "its rollback", "go on"])
def test_a_hook_that_ends_a_sessionmakers_transaction_is_refused(engine: sa.Engine, end: Callable[[Any], None]) -> None:
    store = SqlStore(sessionmaker(engine))
    with pytest.raises(NotAllowed) as refused, store.begin() as tx:
        claim_and_end(tx, end)
    assert refused.value.reason == "hook_ended_transaction"
    assert status_in(engine) == "open"
