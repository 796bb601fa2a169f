"""Rules that the source files keep, which no linter knows."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from pipelines.compile import compile_training
from slipway.config import Config
from slipway.overrides import find_setting, load_preset

ROOT = Path(__file__).parents[2]
COMPONENTS = sorted(ROOT.glob("components/*/component.py"))
PRESETS = sorted(ROOT.glob("pipelines/presets/*.yaml"))
MAX_COMPONENT_LINES = 60


def imported_packages(nodes: list[ast.stmt]) -> set[str]:
    names = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add((node.module or "").partition(".")[0])
    return names


@pytest.mark.parametrize("path", COMPONENTS, ids=lambda path: path.parent.name)
def test_a_component_is_a_short_face_that_imports_kfp_and_the_standard_library_alone(path):
    source = path.read_text()
    assert len(source.splitlines()) <= MAX_COMPONENT_LINES
    tree = ast.parse(source)
    assert imported_packages(tree.body) <= {"kfp", *sys.stdlib_module_names}
    (function,) = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    assert function.name == path.parent.name
    assert not function.args.defaults, "only the function's source travels: pipelines own the defaults"
    assert not any(isinstance(node, ast.If | ast.For | ast.While | ast.Try) and len(node.body) > 1 for node in ast.walk(function))


@pytest.mark.parametrize("path", COMPONENTS, ids=lambda path: path.parent.name)
def test_a_component_hands_over_to_a_stage_that_exists(path):
    function = ast.parse(path.read_text()).body[-1]
    imports = [node for node in ast.walk(function) if isinstance(node, ast.ImportFrom)]
    assert [node.module for node in imports] == [f"slipway.stages.{path.parent.name}"]
    stage = ast.parse((ROOT / f"slipway/stages/{path.parent.name}.py").read_text())
    defined = {node.name for node in stage.body if isinstance(node, ast.FunctionDef)}
    assert {alias.name for node in imports for alias in node.names} <= defined


@pytest.mark.parametrize("preset", PRESETS, ids=lambda path: path.stem)
def test_a_preset_loads_and_compiles_and_says_only_what_differs(preset, tmp_path):
    config = load_preset(preset, Config())
    compile_training(config, tmp_path / "training.yaml")
    spec = next(yaml.safe_load_all((tmp_path / "training.yaml").read_text()))
    assert spec["root"]["inputDefinitions"]["parameters"]["data_source"]["defaultValue"] == config.data.source
    repeated = [
        f"{section}.{key}"
        for section, values in yaml.safe_load(preset.read_text()).items()
        for key, value in values.items()
        if value == find_setting(f"{section}.{key}").default and (section, key) != ("data", "source")
    ]
    assert repeated == []


def test_each_kind_of_source_has_a_preset():
    schemes = {load_preset(preset, Config()).data.source.partition("://")[0] for preset in PRESETS}
    assert schemes == {"sklearn", "idx", "cifar10", "folder", "csv"}


def test_the_library_and_its_command_line_import_no_kfp_and_help_stays_light():
    heavy = ("kfp", "torch", "sklearn", "mlflow", "matplotlib", "scipy", "pandas", "torchvision")
    modules = [f"slipway.cli.{path.stem}" for path in sorted((ROOT / "slipway/cli").glob("[a-z]*.py"))]
    program = f"import sys, {', '.join(modules)}; print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


def test_no_module_of_the_library_imports_kfp():
    importing = [
        str(path.relative_to(ROOT))
        for path in sorted((ROOT / "slipway").rglob("*.py"))
        if imported_packages([node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.stmt)])
        & {"kfp", "kfp_server_api"}
    ]
    assert importing == []


@pytest.mark.parametrize("path", sorted(ROOT.glob("requirements/*.txt")), ids=lambda path: path.name)
def test_requirements_are_pinned_and_hashed_and_name_no_address(path):
    text = path.read_text()
    assert not re.search(r"https?://|--(extra-)?index-url|--find-links|git\+", text)
    entries = re.split(r"\n(?=\S)", "\n".join(line for line in text.splitlines() if not line.strip().startswith("#")))
    entries = [entry for entry in entries if entry.strip()]
    assert entries
    for entry in entries:
        assert re.match(r"[A-Za-z0-9._-]+(\[[a-z0-9,_-]+\])?==[^ ;\\]+", entry), entry.splitlines()[0]
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", entry), entry.splitlines()[0]
