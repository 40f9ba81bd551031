"""The project as a whole: what its pages promise, what it imports, how large it is."""

from __future__ import annotations

import ast
import io
import os
import re
import shutil
import subprocess
import sys
import tokenize
import tomllib
import zipfile
from importlib import metadata
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import deposit_token_sdk
from deposit_token_sdk import errors
from deposit_token_sdk.sandbox.control import VERBS
from deposit_token_sdk.sandbox.faults import KINDS
from deposit_token_sdk.settings import PREFIX, TABLE

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "deposit_token_sdk"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]

NOT_OF_THE_CORE = {"issuers", "checkout", "integrations", "testing", "cli", "sandbox"}
"""Rooms above floor 5, and the one on floor 3 that grows with every bank."""

ABOVE_THE_CORE = {
    "sql": "deposit_token_sdk.checkout.sql",
    "postgres": "psycopg",
    "celery": "deposit_token_sdk.integrations.celery",
    "flask": "deposit_token_sdk.integrations.flask",
    "sandbox": "deposit_token_sdk.sandbox.web",
    "cli": "deposit_token_sdk.cli",
}
"""What each extra is for: the module that needs it, or the driver itself where SQLAlchemy loads it."""


def lines_of_code(source: str) -> int:
    """Lines that hold code: neither blank, nor comment, nor docstring."""
    prose = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in prose:
            lines.update(range(token.start[0], token.end[0] + 1))
    return len(lines - docstring_lines(ast.parse(source)))


def docstring_lines(tree: ast.Module) -> set[int]:
    """Lines of strings that stand alone as statements."""
    return {
        line
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }


def size_of(*modules: Path) -> int:
    return sum(lines_of_code(path.read_text(encoding="utf-8")) for path in modules)


def tracked() -> list[Path]:
    """The project's own files: all but what tools leave in the tree."""
    tops = [path for path in ROOT.iterdir() if path.name in (".ci", ".gitignore") or not path.name.startswith(".")]
    own = [path for path in tops if path.name not in ("build", "dist", "instance") and path.suffix != ".egg-info"]
    files = [file for top in own for file in ([top] if top.is_file() else top.rglob("*"))]
    return [file for file in files if file.is_file() and "__pycache__" not in file.parts]


def run(*command: str | Path, cwd: Path = ROOT) -> str:
    """What it prints. Without PYTHONPATH: what it leads to would pass for installed."""
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, cwd=cwd, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_importing_the_package_imports_nothing_heavy() -> None:
    loaded = run(sys.executable, "-c", "import deposit_token_sdk, sys; print(*sys.modules)").split()
    roots = {name.partition(".")[0] for name in loaded}
    assert not roots & {"requests", "urllib3", "cryptography", "attr", "attrs", "flask", "sqlalchemy", "click", "rich"}


@pytest.mark.parametrize("room", ["errors", "money", "lifecycle", "models", "price", "exchange", "retry", "settings"])
def test_a_room_of_values_needs_neither_the_network_nor_an_extra(room: str) -> None:
    loaded = run(sys.executable, "-c", f"import deposit_token_sdk.{room}, sys; print(*sys.modules)").split()
    assert not {"requests", "urllib3", "cryptography", "flask", "sqlalchemy"} & set(loaded)


def test_the_core_stays_thin() -> None:
    core = [path for path in PACKAGE.rglob("*.py") if path.relative_to(PACKAGE).parts[0] not in NOT_OF_THE_CORE]
    signing = list((PACKAGE / "signing").rglob("*.py"))
    assert size_of(*signing) < 1_600
    assert size_of(*core) - size_of(*signing) < 2_450


AROUND_THE_CHECKOUT = {"outbox", "review", "health", "books", "day", "seal", "archive", "proving", "merkle"}
"""Rooms of the checkout beside the path of a payment: what a person looks at, and what runs in the background."""


def test_the_checkout_stays_thin() -> None:
    modules = list((PACKAGE / "checkout").rglob("*.py"))
    around = [path for path in modules if path.stem in AROUND_THE_CHECKOUT]
    database = [path for path in modules if path.stem.startswith("sql") or "migrations" in path.parts]
    assert size_of(*modules) - size_of(*around) - size_of(*database) < 2_020
    assert size_of(*database) < 1_560
    assert size_of(*around) < 1_700


def test_no_module_is_longer_than_500_lines() -> None:
    long = [
        str(path.relative_to(ROOT))
        for path in tracked()
        if path.suffix == ".py" and path.read_text(encoding="utf-8").count("\n") > 500
    ]
    assert long == []


def test_lines_of_code_leave_out_comments_blank_lines_and_docstrings() -> None:
    source = (
        '"""Prose\nof two lines."""\n\n# a comment\nx = """not\nprose"""\n\n'
        'def f():\n    "Prose."\n    return x  # why\n'
    )
    assert lines_of_code(source) == 4


def test_exactly_three_packages_are_required_and_nothing_is_pinned_from_above() -> None:
    every = [*PROJECT["dependencies"], *(need for needs in EXTRAS.values() for need in needs)]
    assert {name_of(need) for need in PROJECT["dependencies"]} == {"requests", "cryptography", "attrs"}
    assert [need for need in every if re.search(r"<|==|~=", need)] == []


def test_every_package_that_is_imported_is_declared() -> None:
    declared = {name_of(need) for needs in (PROJECT["dependencies"], *EXTRAS.values()) for need in needs}
    declared |= {"urllib3", "werkzeug"}  # of requests and Flask, always with them
    declared |= {"pytest", "_typeshed"}  # whoever uses `testing` has pytest; the other is for type checkers alone
    distributions = packages_distributions()
    imported = {
        root: {name.lower() for name in distributions.get(root, [root])}
        for path in PACKAGE.rglob("*.py")
        for root in imported_roots(ast.parse(path.read_text(encoding="utf-8")))
        if root not in sys.stdlib_module_names and root != PACKAGE.name
    }
    assert {root for root, names in imported.items() if not names & declared} == set()


def name_of(need: str) -> str:
    return re.split(r"[<>=~!\[; ]", need, maxsplit=1)[0].lower()


def imported_roots(tree: ast.Module) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return found


def test_the_makefile_installs_every_extra() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    listed = re.search(r"^EXTRAS := (.+)$", makefile, re.MULTILINE)
    assert listed
    assert set(listed[1].split(",")) == set(EXTRAS) == set(ABOVE_THE_CORE)


@pytest.mark.parametrize("jobs", ["-j1", "-j4"])
def test_each_check_has_a_target_and_check_is_all_of_them(jobs: str) -> None:
    steps = {target: run("make", "-n", jobs, target) for target in ("check", "lint", "types", "floors")}
    for target, tool in (
        ("lint", "ruff check"),
        ("lint", "ruff format"),
        ("types", "mypy"),
        ("floors", "lint-imports"),
    ):
        assert tool in steps[target]
        assert tool in steps["check"]


def test_the_tests_are_never_stopped_at_the_first_failure() -> None:
    settings = "".join((ROOT / name).read_text(encoding="utf-8") for name in ("Makefile", "pyproject.toml", ".ci/run"))
    about_pytest = [line for line in settings.splitlines() if re.search("pytest|PYTEST|addopts", line)]
    assert [line for line in about_pytest if re.search(r"\s-x\b|--maxfail|--exitfirst", line)] == []


def test_the_makefile_adds_to_the_environment_and_replaces_nothing() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assigned = [
        line for line in makefile.splitlines() if re.search(r"\b(PYTHONPATH|PYTEST_ADDOPTS|TMPDIR)\s*[:+?]?=", line)
    ]
    assert [line.strip() for line in assigned] == [
        '@PYTEST_ADDOPTS="-n 3 --dist worksteal $$PYTEST_ADDOPTS" exec $(BIN)/python -m pytest'
    ]


def test_every_setting_is_documented_as_it_is() -> None:
    page = (ROOT / "docs/settings.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith(f"| `{PREFIX}")]
    assert rows == [setting_row(name, default, meaning) for name, (default, meaning) in TABLE.items()]


def setting_row(name: str, default: str | None, meaning: str) -> str:
    told = "required" if default is None else f"`{default}`" if default else ""
    return f"| `{PREFIX}{name}` | {told} | {meaning} |"


def test_every_error_is_documented_and_public() -> None:
    page = (ROOT / "docs/errors.md").read_text(encoding="utf-8")
    raised = {name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, Exception)}
    assert raised <= set(deposit_token_sdk.__all__)
    assert {name for name in raised if f"`{name}`" not in page} == set()


def test_every_verb_and_fault_of_the_sandbox_is_documented_and_no_other() -> None:
    page = (ROOT / "docs/sandbox.md").read_text(encoding="utf-8").partition("## The control")[2]
    control, _, faults = page.partition("## Faults")
    assert {word for row in rows_of(control) for word in re.findall(r"`([a-z_]+)`", row)} == set(VERBS)
    assert {word for row in rows_of(faults) for word in re.findall(r"^\| `([a-z_]+)`", row)} == set(KINDS)


def rows_of(page: str) -> list[str]:
    return [line for line in page.splitlines() if line.startswith("|")]


def test_the_changelog_has_a_section_for_this_version_or_the_next() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(rf"^## \[({re.escape(PROJECT['version'])}|Unreleased)\]", changelog, re.MULTILINE)


def test_the_licence_is_the_one_that_is_declared() -> None:
    assert PROJECT["license"] == "Apache-2.0"
    assert "Apache License" in (ROOT / "LICENSE").read_text(encoding="utf-8")


def test_every_link_within_the_project_leads_somewhere() -> None:
    broken = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in (path for path in tracked() if path.suffix == ".md")
        for target in re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8"))
        if "://" not in target and not (page.parent / target).exists()
    ]
    assert broken == []


SPECS = {"run": "../share" + "d/specs"}
"""The one place outside that is named, in `.ci/run`: where the banks' documents lie, if they do."""


def test_no_file_names_the_machine_it_was_written_on() -> None:
    places = re.compile(r"/wor[k]/|/roo[t]/|/tm[p]/brief|\.\./share[d]\b|/opt/pyp[i]|pypi\.or[g]|pythonhosted\.or[g]")
    naming = [
        f"{path.relative_to(ROOT)}: {found[0]}"
        for path in tracked()
        if (found := places.search(path.read_bytes().decode("utf-8", "ignore").replace(SPECS.get(path.name, "\0"), "")))
    ]
    assert naming == []


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built wheel. It is built from a copy, so that nothing is left in the tree."""
    tree = tmp_path_factory.mktemp("tree")
    for name in ("pyproject.toml", "setup.cfg", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    shutil.copytree(PACKAGE, tree / PACKAGE.name, ignore=shutil.ignore_patterns("__pycache__"))
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", tree / "wheels", tree)
    (built,) = (tree / "wheels").glob("*.whl")
    return built


def test_the_wheel_holds_all_that_stands_in_the_package(wheel: Path) -> None:
    files = {path.relative_to(ROOT).as_posix() for path in tracked() if path.is_relative_to(PACKAGE)}
    with zipfile.ZipFile(wheel) as packed:
        assert files - set(packed.namelist()) == set()
    assert {"deposit_token_sdk/py.typed", "deposit_token_sdk/sandbox/openapi.yaml"} < files
    assert any(name.startswith("deposit_token_sdk/sandbox/pages/") for name in files)


def needed_by(requirement: Requirement) -> set[str]:
    """The distributions that an installer would bring for it, out of those that are installed here."""
    distribution = metadata.distribution(requirement.name)
    found = {requirement.name}
    for each in map(Requirement, distribution.requires or []):
        if not each.marker or any(each.marker.evaluate({"extra": extra}) for extra in ("", *requirement.extras)):
            found |= needed_by(each)
    return found


@pytest.mark.parametrize("extra", sorted(ABOVE_THE_CORE))
def test_each_extra_imports_with_nothing_but_what_it_declares(extra: str, wheel: Path, tmp_path: Path) -> None:
    """The wheel beside the closure of its requirements. That they install, `make` shows, which installs every extra."""
    with zipfile.ZipFile(wheel) as packed:
        packed.extractall(tmp_path)
    for name in needed_by(Requirement(f"deposit-token-sdk[{extra}]")) - {"deposit-token-sdk"}:
        distribution = metadata.distribution(name)
        for top in {file.parts[0] for file in distribution.files or [] if file.parts[0] not in ("..", "__pycache__")}:
            if not (tmp_path / top).exists():
                (tmp_path / top).symlink_to(str(distribution.locate_file(top)))
    alone = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import {ABOVE_THE_CORE[extra]} as it; print(it.__file__)"
    )
    assert run(sys.executable, "-I", "-S", "-c", alone, cwd=tmp_path).startswith(str(tmp_path))


def test_the_bare_wheel_needs_its_extras_for_what_is_above_the_core(wheel: Path) -> None:
    """So the test above can fail: what an extra brings is not there without it."""
    core = needed_by(Requirement("deposit-token-sdk"))
    assert {"requests", "cryptography", "attrs"} < core
    assert core & {"SQLAlchemy", "sqlalchemy", "flask", "Flask", "celery", "click", "psycopg"} == set()
