"""What the documentation says of the code is so: links, the table of states, settings, commands, metrics."""

import importlib
import re
import tomllib
from pathlib import Path

import pytest
from prometheus_client import REGISTRY
from prometheus_client.metrics import MetricWrapperBase

from callboard.cli.main import cli
from callboard.config.settings import Settings
from callboard.jobs.model.states import TRANSITIONS, JobState

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    *sorted(ROOT.glob("docs/**/*.md")),
    *ROOT.glob("examples/*.md"),
]
LINK = re.compile(r"(?<!!)\[[^\]]+\]\(([^)\s]+)\)")


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def rows(page: str, *columns: str) -> list[list[str]]:
    """The cells of the table with this header."""
    lines = (ROOT / page).read_text().splitlines()
    start = lines.index(f"| {' | '.join(columns)} |") + 2
    found = []
    for line in lines[start:]:
        if not line.startswith("|"):
            break
        found.append([cell.strip() for cell in line.strip("|").split("|")])
    return found


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


def test_every_page_can_be_reached_from_the_index():
    index = (ROOT / "docs/README.md").read_text() + (ROOT / "docs/adr/README.md").read_text()
    for page in ROOT.glob("docs/**/*.md"):
        assert page.name == "README.md" or f"({page.name})" in index, page


def test_the_table_of_verbs_is_the_one_in_the_code():
    def states(cell: str) -> set[str]:
        return set() if cell in {"-", "gone"} else set(cell.split(", "))

    told = {verb: (states(source), states(target)) for verb, source, target, _ in rows(
        "docs/state_machine.md", "verb", "from", "to", "who, and what else")}  # fmt: skip
    assert told == {
        str(verb): ({str(one) for one in move.sources}, {str(one) for one in move.targets})
        for verb, move in TRANSITIONS.items()
    }


def test_the_table_of_states_is_the_one_in_the_code():
    told = [cell.strip("`") for cell, _ in rows("docs/state_machine.md", "state", "meaning")]
    assert told == [str(state) for state in JobState]


def test_the_diagram_shows_only_moves_that_there_are():
    text = (ROOT / "docs/state_machine.md").read_text()
    drawn = re.findall(r"^    (\S+) --> (\S+): (.*)$", text, re.MULTILINE)
    assert drawn
    for source, target, verbs in drawn:
        for verb in verbs.removesuffix(", later").removesuffix(", after others").split(", "):
            move = TRANSITIONS[verb]
            assert JobState(target) in move.targets
            assert source == "[*]" or JobState(source) in move.sources


def test_every_setting_is_in_the_table_and_nothing_else():
    told = [key.strip("`") for key, _, _ in rows("docs/operations.md", "key", "default", "meaning")]
    assert sorted(told) == sorted(f"CALLBOARD_{field.upper()}" for field in Settings.model_fields)


def test_every_command_that_is_named_exists():
    for noun, verbs in rows("docs/cli.md", "noun", "verbs"):
        for words in re.findall(r"`([^`]+)`", verbs):
            command = cli
            for word in [noun.strip("`"), *words.split()]:
                command = command.get_command(None, word)
                assert command is not None, (noun, words)


def test_every_series_that_is_named_is_counted():
    for module in (
        "callboard.jobs.metrics",
        "callboard.jobs.webhooks.intake",
        "callboard.api.http.middleware",
        "callboard.scheduler.scheduler_process",
    ):
        importlib.import_module(module)
    counted = {
        f"{name}_total" if collector._type == "counter" else name
        for collector in list(REGISTRY._collector_to_names)
        if isinstance(collector, MetricWrapperBase) and (name := collector._name)
    }
    told = {cell.strip("`") for cell, _ in rows("docs/operations.md", "series", "meaning")}
    assert told == {name for name in counted if name.startswith("callboard_")}


def test_the_changelog_names_the_version_or_what_is_to_come():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    headings = re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[0] in {"Unreleased", version}
