"""The example of a third party's issuer, installed beside the package, passes the suite; a credulous one fails it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "issuer"

pytestmark = pytest.mark.conformance

THEIR_TEST = """
from deposit_token_sdk.testing.issuers import IssuerConformance

class TestTheirs(IssuerConformance):
    pass
"""

CREDULOUS = '''
"""An issuer that believes whatever it is told: it looks at no signature, and takes all that comes for its own."""

import json
from datetime import UTC, datetime

from attrs import evolve

from deposit_token_sdk.evidence import _confirmation
from deposit_token_sdk.issuers.reference import ReferenceIssuer
from deposit_token_sdk.issuers.reference_json import EVENT_STATEMENTS
from deposit_token_sdk.models import Evidence, Proof
from deposit_token_sdk.signing.base64url import decode_url


class Trusting:
    def verify(self, headers, body, now):
        return {name.lower(): text for name, text in headers.items()}["webhook-id"]


class CredulousIssuer(ReferenceIssuer):
    def __init__(self, settings):
        super().__init__(settings)
        self._verifier = Trusting()

    def event(self, headers, body, now):
        return evolve(super().event(headers, body, now), merchant=self.merchant, mode=self.mode)

    def report_event(self, event, now):
        report = yield from super().report_event(evolve(event, statement=None), now)
        if report is None or event.statement is None:
            return report
        told = json.loads(decode_url(event.statement.split(".")[1])) | {"aud": self.merchant, "mode": str(self.mode)}
        kind = EVENT_STATEMENTS[event.type]
        kept = Evidence(Proof.JWS, kind, event.statement, '{"keys":[]}', datetime.now(UTC))
        return evolve(report, confirmations=(_confirmation(kind, told, kept),))
'''

FOOLED = {
    "test_a_test_s_money_pays_nothing_in_a_live_shop",
    "test_a_message_altered_by_one_character_is_not_believed",
    "test_one_order_s_news_rewritten_for_another_are_not_believed",
    "test_what_another_key_signed_is_not_believed",
}


def install(folder: Path, name: str, points: dict[str, dict[str, str]]) -> None:
    """What an installation leaves beside the module itself: metadata with its entry points."""
    info = folder / f"{name}-1.0.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0.0\n", encoding="utf-8")
    lines = [line for group in points for line in (f"[{group}]", *(f"{k} = {v}" for k, v in points[group].items()))]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def suite(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run the suite as a third party would: a conftest of one line, a class of two, and the option."""
    (folder / "conftest.py").write_text('pytest_plugins = ["deposit_token_sdk.testing.plugin"]\n', encoding="utf-8")
    (folder / "test_theirs.py").write_text(THEIR_TEST, encoding="utf-8")
    environ = {name: text for name, text in os.environ.items() if not name.startswith("PYTEST")}
    environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # what else is installed here, they need not have
    environ["PYTHONPATH"] = os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", "-rfE", "--strict-markers", *options]
    return subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, check=False)


def test_the_example_is_short() -> None:
    (module,) = EXAMPLE.glob("*.py")
    assert len(module.read_text(encoding="utf-8").splitlines()) < 100


def test_the_example_passes_the_whole_suite(tmp_path: Path) -> None:
    shutil.copy(EXAMPLE / "harbour.py", tmp_path)
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    install(tmp_path, project["name"].replace("-", "_"), project["entry-points"])
    done = suite(tmp_path, "--issuer", "harbour")
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    assert re.search(r"^\d\d passed in", done.stdout, re.MULTILINE)


def test_an_issuer_that_believes_anything_is_found_out(tmp_path: Path) -> None:
    (tmp_path / "credulous.py").write_text(CREDULOUS, encoding="utf-8")
    install(
        tmp_path,
        "credulous_issuer",
        {"deposit_token_sdk.issuers": {"credulous": "credulous:CredulousIssuer"}},
    )
    done = suite(tmp_path, "--issuer", "credulous", "-k", "Theirs and (believed or live_shop or fulfilled_once)")
    assert done.returncode == 1, done.stdout[-5000:] + done.stderr[-2000:]
    assert set(re.findall(r"^FAILED .*::(test_\w+)", done.stdout, re.MULTILINE)) == FOOLED
    assert re.search(r"\d passed", done.stdout)


def test_without_a_name_nothing_is_run_and_it_says_so(tmp_path: Path) -> None:
    done = suite(tmp_path)
    assert done.returncode != 0
    assert "Name the issuer: --issuer NAME" in done.stdout + done.stderr
