"""A store that was used before a fork serves parent and children, and nobody reads another's answer."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from sqlalchemy import Engine

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
