"""What the documentation says that a program can check: commands, options, settings, paths, tables."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

import click
import pytest
import typer

from pipelines import compile as compile_script
from pipelines import resources, submit
from slipway.cli.main import app
from slipway.config import Config
from slipway.doctor.checkup import run_checks
from slipway.doctor.cluster import CHECKS as CLUSTER_CHECKS
from slipway.overrides import apply_overrides
from slipway.serving.process.options import load_options
from slipway.settings import load_settings
from slipway.stages.record import RunRecord, StageRecord, summarize, utc_now, write_run, write_stage

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *ROOT.glob("CONTRIBUTING.md")])
_FENCE = re.compile(r"^```(?:sh|bash|shell|console)?\n(.*?)^```", re.MULTILINE | re.DOTALL)
_OUR_COMMANDS = ("slipway ", "make ", "python pipelines/")


@dataclass(frozen=True)
class Command:
    page: str
    line: str

    def __str__(self) -> str:
        return f"{self.page}: {self.line}"


def documented_commands() -> list[Command]:
    found = []
    for page in PAGES:
        text = page.read_text()
        lines = [line.removeprefix("$ ").strip() for block in _FENCE.findall(text) for line in block.splitlines()]
        inline = re.findall(r"`((?:slipway|make|python pipelines/)[^`\n]*)`", text)
        indented = re.findall(r"^ {4}(\S.*)$", text, re.MULTILINE)
        found += [Command(page.name, line) for line in (*lines, *indented, *inline) if line.startswith(_OUR_COMMANDS)]
    return found


def table(page: str, heading: str) -> list[list[str]]:
    """The cells of the first table under `heading`, without its head."""
    text = (ROOT / "docs" / page).read_text().split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]
    return rows[2:]


def leaf_command(words: list[str]) -> tuple[click.Command, list[str]]:
    command = typer.main.get_command(app)
    while words and hasattr(command, "commands"):
        assert words[0] in command.commands or words[0].startswith("-"), f"no command {words[0]!r}"
        if words[0].startswith("-"):
            break
        command, words = command.commands[words[0]], words[1:]
    return command, words


@pytest.mark.parametrize("command", documented_commands(), ids=str)
def test_a_documented_command_is_one_that_works(command):
    program, *words = shlex.split(command.line.split(" | ")[0], comments=True)
    placeholders = {word for word in words if word.isupper()}
    words = [word for word in words if word not in placeholders]
    if program == "make":
        targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
        assert {word for word in words if "=" not in word} <= targets
        return
    if program == "python":
        script = words.pop(0)
        assert (ROOT / script).is_file()
        known = {"pipelines/compile.py": compile_script.__file__, "pipelines/submit.py": submit.__file__}
        options = set(re.findall(r'"(--[a-z-]+)"', Path(known[script]).read_text()))
        options |= {"--preset", "--registry", "--image-tag"}  # both scripts share them
    else:
        leaf, words = leaf_command(words)
        options = {name for parameter in leaf.params for name in (*parameter.opts, *parameter.secondary_opts)} | {"--help"}
        if "--" in words:  # what follows is the predictor's
            load_options(["--pointer", "current.json", *words[words.index("--") + 1 :]], load_settings({}))
            words = words[: words.index("--")]
    assert {word.partition("=")[0] for word in words if word.startswith("--")} <= options
    overrides = [word for word in words if re.match(r"[a-z]+\.[a-z_]+=", word)]
    apply_overrides(Config(), [re.sub(r"=([A-Z]+)$", "=1", override) for override in overrides])
    assert [word for word in words if word.startswith("pipelines/") and not (ROOT / word).exists()] == []


def test_every_command_is_in_the_table_of_commands():
    documented = set(re.findall(r"^\| `slipway ([a-z]+)` \|", (ROOT / "docs/cli.md").read_text(), re.MULTILINE))
    assert documented == set(typer.main.get_command(app).commands)


def test_the_fields_of_the_report_are_those_that_it_prints(tmp_path):
    run = RunRecord(run_id="r", pipeline="training", status="SUCCEEDED", started_at=utc_now(), parameters={})
    write_run(tmp_path, run)
    facts = {"passed": True, "reasons": [], "refusals": [], "metrics": {}}
    write_stage(
        tmp_path, StageRecord(name="evaluate", status="SUCCEEDED", started_at=utc_now(), seconds=1.0, cached=False, facts=facts)
    )
    summary = summarize(tmp_path)
    documented = {row[0].strip("`"): row[1] for row in table("cli.md", "Report")}
    assert list(documented) == list(summary)
    assert set(re.findall(r"`(\w+)`", documented["decision"])) == set(summary["decision"])
    assert set(re.findall(r"`(\w+)`", documented["stages"])) == set(summary["stages"][0])


def test_the_checks_of_the_doctor_are_those_that_it_makes(tmp_path):
    made = {check.name for check in run_checks(load_settings({"SLIPWAY_HOME": str(tmp_path)}))} | set(CLUSTER_CHECKS)
    assert {name for row in table("cli.md", "Doctor") for name in re.findall(r"`(\w+)`", row[0])} == made


def test_the_figures_of_the_tasks_are_those_of_the_file():
    for name, *documented in table("pipelines.md", "What a task is given on a cluster"):
        given = getattr(resources, name.upper())
        cached = "yes" if given.caching else "no"
        figures = [given.image, given.cpu, given.memory, f"{given.timeout_seconds} s", str(given.num_retries), cached]
        assert documented == figures, name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_paths_in_a_page_lead_somewhere(page):
    text = page.read_text()
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]
    assert [link for link in links if link and not (page.parent / link).exists()] == []
    paths = re.findall(
        r"`((?:slipway|components|pipelines|images|manifests|kserve|tests|benchmarks|docs)/[\w./-]+\.(?:py|ya?ml|md|json))`", text
    )
    assert [path for path in paths if not (ROOT / path).exists()] == []
