"""A store that was used before a fork serves parent and children, and nobody reads another's answer."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine
from sqlalchemy.pool import NullPool

from deposit_token_sdk.checkout.sql import prepare_sqlite
from tests.databases import ON_BOTH, address

PROGRAM = """
import os, sys
from sqlalchemy import create_engine, literal, select
from sqlalchemy.orm import sessionmaker
from deposit_token_sdk import SqlStore
from deposit_token_sdk.checkout.sql import prepare_sqlite

engine = create_engine(sys.argv[1])
prepare_sqlite(engine)
store = SqlStore(sessionmaker(engine))
store.create_schema()
installation = store.installation()

def work(calls):
    for call in range(calls):
        word = f"{os.getpid()}-{call}"
        with store.begin() as tx:
            assert tx.session.execute(select(literal(word))).scalar_one() == word
        assert store.installation() == installation

work(2)
children = []
for _ in range(4):
    child = os.fork()
    if child == 0:
        try:
            work(50)
        except BaseException as problem:
            print(repr(problem), file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    children.append(child)
work(50)
codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
work(2)
sys.exit(max(codes))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@ON_BOTH
def test_after_a_fork_each_process_reads_its_own_answers_from_the_database(database: Engine) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", PROGRAM, address(database)],
        timeout=60,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_many_that_start_at_once_on_a_new_file_all_find_it_prepared(tmp_path: Path) -> None:
    for turn in range(20):
        engines = [create_engine(f"sqlite:///{tmp_path / str(turn)}", poolclass=NullPool) for _ in range(8)]
        for engine in engines:
            prepare_sqlite(engine)
        at_once = threading.Barrier(len(engines))

        def journal(engine: Engine, at_once: threading.Barrier = at_once) -> object:
            at_once.wait(15)
            with engine.connect() as connection:
                return connection.exec_driver_sql("PRAGMA journal_mode").scalar_one()

        with ThreadPoolExecutor(len(engines)) as pool:
            assert set(pool.map(journal, engines)) == {"wal"}
