"""The documentation agrees with the code: links, states, settings, commands, errors, metrics, files,
decisions.
"""

import dataclasses
import importlib
import inspect
import re
import tomllib
from pathlib import Path
from typing import get_args

import pytest
from prometheus_client import REGISTRY

import callboard
from callboard.api.http.error_responses import STATUS
from callboard.cli.console.error_lines import exit_code
from callboard.cli.main import cli
from callboard.config.settings import Settings
from callboard.jobs import metrics
from callboard.jobs.attempts.context import JobEnded, NotInAJob
from callboard.jobs.attempts.verdict import ResultRefused, TimedOut
from callboard.jobs.errors import CallboardError
from callboard.jobs.model.outcomes import Cancel, Fail, Outcome, Retry
from callboard.jobs.model.states import TRANSITIONS, JobState

ROOT = Path(__file__).parents[2]
PAGES = [
    *(ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")),
    *sorted(ROOT.glob("docs/**/*.md")),
    *ROOT.glob("examples/*.md"),
]
STATES = "docs/reference/state_machine.md"
ADRS = sorted(ROOT.glob("docs/explanation/adr/[0-9]*.md"))
LONGEST_LINE = 110
LINK = re.compile(r"(?<!!)\[[^\]]+\]\(([^)\s]+)\)")


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def rows(page: str, *columns: str, skip: int = 0) -> list[list[str]]:
    """The cells of the table with this header; of the one after `skip` others with the same header."""
    lines = (ROOT / page).read_text().splitlines()
    header = f"| {' | '.join(columns)} |"
    start = [number for number, line in enumerate(lines) if line == header][skip] + 2
    found = []
    for line in lines[start:]:
        if not line.startswith("|"):
            break
        found.append([cell.strip() for cell in line.strip("|").split("|")])
    return found


def subclasses(kind: type) -> set[type]:
    """All classes that derive from this one, at any depth."""
    return {found for one in kind.__subclasses__() for found in (one, *subclasses(one))}


def anchors(path: Path) -> set[str]:
    """The anchors of a page's headings, as forges make them."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_leads_somewhere(page):
    for target in LINK.findall(page.read_text()):
        if target.startswith("http"):
            continue
        place, _, anchor = target.partition("#")
        path = (page.parent / place).resolve() if place else page
        assert path.exists(), target
        assert not anchor or anchor in anchors(path), target


def test_every_page_is_listed_in_the_index():
    index = ROOT / "docs/index.md"
    adrs = ROOT / "docs/explanation/adr/README.md"
    listed = {
        (page.parent / target.partition("#")[0]).resolve()
        for page in (index, adrs)
        for target in LINK.findall(page.read_text())
    }
    for page in ROOT.glob("docs/**/*.md"):
        assert page == index or page in listed, page


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_no_line_is_too_long_except_in_tables_and_addresses(page):
    lines = page.read_text().splitlines()
    wrapped = [line for line in lines if not line.lstrip().startswith("|") and "]: http" not in line]
    assert [line for line in wrapped if len(line) > LONGEST_LINE] == []


@pytest.mark.parametrize("page", ADRS, ids=name_of)
def test_every_adr_has_a_number_a_status_and_a_row_in_the_list(page):
    title, _, status, *_ = page.read_text().splitlines()
    number = page.name.partition("-")[0]
    assert title.startswith(f"# {int(number)}. ")
    told = re.match(r"Status: (accepted|superseded(?: in part)? by \[?(\d{4}))", status)
    assert told
    row = next(
        cells
        for cells in rows("docs/explanation/adr/README.md", "number", "decision", "status")
        if number in cells[0]
    )
    assert row[1] == title.partition(". ")[2]
    assert row[2].startswith(told[1].partition(" by ")[0])
    assert told[2] is None or told[2] in row[2]


def test_the_files_that_the_architecture_names_exist():
    text = (ROOT / "docs/explanation/architecture.md").read_text()
    for path in re.findall(r"`((?:api|cli|config|jobs|scheduler|src|tests|workers)/[\w/.]*)`", text):
        assert (ROOT / path).exists(), path
    for kind in ("enqueue", "attempt"):
        files = text.partition(f"<!-- {kind} files -->\n")[2].partition("<!-- end -->")[0]
        assert re.fullmatch(r"(?:- `[\w/]+\.py`\n)+", files)


def test_every_stored_error_that_is_named_is_one_of_the_code():
    stored = {
        error.stored_as
        for error in (
            *subclasses(CallboardError),
            *subclasses(Outcome),
            TimedOut,
            ResultRefused,
            JobEnded,
            NotInAJob,
        )
    }
    told = {cells[0].strip("`") for cells in rows("docs/reference/errors.md", "`class`", "meaning")}
    assert told - {"WorkerDied"} <= stored
    assert {outcome.stored_as for outcome in (Cancel, Fail, Retry)} | {"TimedOut", "ResultRefused"} <= told


def test_every_error_is_in_the_table_with_its_code_status_and_exit_code():
    columns = ("class in Python", "code", "HTTP", "exit code", "meaning")
    told = {cells[0].strip("`"): cells for cells in rows("docs/reference/errors.md", *columns)}
    for error in (CallboardError, *subclasses(CallboardError)):
        if error.__name__ in told:
            _, code, status, exit_with, _ = told[error.__name__]
            assert code == f"`{error.code}`"
            assert status == str(STATUS.get(error.code, "-"))
            assert int(exit_with) == exit_code(error("told"))
    assert set(told) == {error.__name__ for error in CallboardError.__subclasses__()
                         if error.__module__ == CallboardError.__module__} | {"InvalidArguments"}  # fmt: skip


def test_the_table_of_verbs_is_the_one_in_the_code():
    def states(cell: str) -> set[str]:
        return set() if cell in {"-", "gone"} else set(cell.split(", "))

    told = {verb: (states(source), states(target)) for verb, source, target, _ in rows(
        STATES, "verb", "from", "to", "who, and what else")}  # fmt: skip
    assert told == {
        str(verb): ({str(one) for one in move.sources}, {str(one) for one in move.targets})
        for verb, move in TRANSITIONS.items()
    }


def test_the_table_of_states_is_the_one_in_the_code():
    told = [cell.strip("`") for cell, _ in rows(STATES, "state", "meaning")]
    assert told == [str(state) for state in JobState]


def test_the_diagram_shows_only_moves_that_there_are():
    text = (ROOT / STATES).read_text()
    drawn = re.findall(r"^    (\S+) --> (\S+): (.*)$", text, re.MULTILINE)
    assert drawn
    for source, target, verbs in drawn:
        for verb in verbs.removesuffix(", later").removesuffix(", after others").split(", "):
            move = TRANSITIONS[verb]
            assert JobState(target) in move.targets
            assert source == "[*]" or JobState(source) in move.sources


def test_every_setting_is_in_the_table_and_nothing_else():
    told = [key.strip("`") for key, _, _ in rows("docs/reference/settings.md", "key", "default", "meaning")]
    keys = [field.alias or name for name, field in Settings.model_fields.items()]
    assert sorted(told) == sorted(f"CALLBOARD_{key.upper()}" for key in keys)


def names(cell: str) -> list[str]:
    """The names in a cell: the first word of each piece of code."""
    return [re.match(r"\w+", code)[0] for code in re.findall(r"`([^`]+)`", cell)]


def test_the_page_about_python_names_what_there_is_and_nothing_else():
    page = "docs/reference/python.md"
    told = [name for cells in rows(page, "name", "meaning") for name in names(cells[0])]
    assert sorted(told) == sorted(callboard.__all__)
    fields = [name for cells in rows(page, "field", "meaning") for name in names(cells[0])]
    assert sorted(fields) == sorted(field.name for field in dataclasses.fields(callboard.Job))
    options = [cells[0].strip("`") for cells in rows(page, "option", "default", "meaning")]
    assert options == [name for name in inspect.signature(callboard.job).parameters if name != "fn"]
    methods = [
        name
        for name, kind in vars(callboard.Client).items()
        if not name.startswith("_") and name not in {"platform", "over", "from_settings", "check_many"}
    ]
    assert methods == [names(cells[0])[0] for cells in rows(page, "method", "meaning", skip=1)]


def test_every_command_that_is_named_exists():
    for noun, verbs in rows("docs/reference/cli.md", "noun", "verbs"):
        for words in re.findall(r"`([^`]+)`", verbs):
            command = cli
            for word in [noun.strip("`"), *words.split()]:
                command = command.get_command(None, word)
                assert command is not None, (noun, words)


def registered() -> set[tuple[str, str, tuple[str, ...]]]:
    """Name, type and labels of every metric of ours."""
    for module in (
        "callboard.jobs.metrics",
        "callboard.jobs.webhooks.intake",
        "callboard.api.http.server",
        "callboard.api.http.middleware",
        "callboard.api.readiness",
        "callboard.scheduler.scheduler_process",
    ):
        importlib.import_module(module)
    found = set()
    for collector in list(REGISTRY._collector_to_names):
        # the library's own collectors describe nothing
        for family in getattr(collector, "describe", list)():
            if family.name.startswith("callboard_"):
                name = f"{family.name}_total" if family.type == "counter" else family.name
                labels = getattr(family, "_labelnames", None) or getattr(collector, "_labelnames", ())
                found.add((name, family.type, tuple(labels)))
    return found


def test_every_metric_is_in_the_table_with_its_type_and_its_labels():
    columns = ("metric", "type", "labels", "process", "meaning")
    told = {
        (name.strip("`"), kind, tuple(re.findall(r"`(\w+)`", labels)))
        for name, kind, labels, *_ in rows("docs/reference/metrics.md", *columns)
    }
    assert told == registered()


def test_every_operation_of_a_store_is_in_the_table_of_metrics():
    told = {
        (store, operation.strip("`"))
        for store, operation, _ in rows("docs/reference/metrics.md", "store", "operation", "what is measured")
    }
    postgres, redis = get_args(metrics.PostgresOperation), get_args(metrics.RedisOperation)
    assert told == {("postgres", each) for each in postgres} | {("redis", each) for each in redis}


def test_the_changelog_has_only_the_headings_of_keep_a_changelog():
    headings = re.findall(r"^### (.+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert set(headings) <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def test_the_changelog_names_the_version_or_what_is_to_come():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    headings = re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[0] in {"Unreleased", version}


def test_the_job_of_the_readme_is_among_those_that_make_up_runs():
    code = (ROOT / "examples/receipts.py").read_text().partition("\n\n")[2]
    assert f"# shop/receipts.py\n{code}```" in (ROOT / "README.md").read_text()
    assert "examples.receipts" in (ROOT / "Makefile").read_text()
