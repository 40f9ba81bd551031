"""A transport that was used before a fork serves parent and children, and nobody reads another's answer."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest

PROGRAM = """
import os, sys, threading
from deposit_token_sdk.exchange import Request, Response
from deposit_token_sdk.transport import Transport

url, threads = sys.argv[1], int(sys.argv[2])
transport = Transport(environ={})

def work(calls):
    for call in range(calls):
        path = f"/{os.getpid()}/{threading.get_ident()}/{call}"
        answer = transport.answer(Request("GET", url + path, "GET"), 20)
        assert isinstance(answer, Response) and answer.body == path.encode(), answer

work(2)
crowd = [threading.Thread(target=work, args=(100,)) for _ in range(threads)]
for each in crowd:
    each.start()
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
for each in crowd:
    each.join()
sys.exit(max(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.parametrize("threads", [0, 8])
def test_after_a_fork_each_process_gets_its_own_answers(threads: int, echoing: Any) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", PROGRAM, echoing.url, str(threads)],
        timeout=60,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
