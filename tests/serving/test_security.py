"""What an answer gives away of the server, and what the server could be made to run."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from slipway.serving.process.access import Access
from slipway.serving.process.options import AccessOptions

ROOT = Path(__file__).parents[2]
UNSAFE_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "torch"}
UNSAFE_CALLS = {"eval", "exec", "__import__", "compile"}


def test_answers_say_nothing_of_the_server_and_forbid_guessing(predictor):
    for answer in (
        httpx.get(f"{predictor.url}/v2"),
        httpx.post(predictor.infer_url, content=b"{"),
        httpx.get(predictor.url + "/nope"),
    ):
        assert "server" not in answer.headers
        assert "x-powered-by" not in answer.headers
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"
        assert "Traceback" not in answer.text
        assert ".py" not in answer.text


@pytest.mark.parametrize("path", ["/docs", "/v2", "/openapi.json", "/nope"])
def test_each_header_of_an_answer_stands_once(predictor, path):
    names = [name for name, _ in httpx.get(predictor.url + path, headers={"accept": "text/html"}).headers.multi_items()]
    assert len(names) == len(set(names))


def test_everybody_may_ask_where_nothing_is_set():
    assert Access(AccessOptions()).is_open


def _nodes_at_run_time(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        if not (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)):
            yield node
            yield from _nodes_at_run_time(node)


def _modules_of_serving() -> list[Path]:
    """Our own modules that a predictor can reach, inside functions too."""
    waiting, seen = sorted((ROOT / "slipway" / "serving").rglob("*.py")), set[Path]()
    while waiting:
        path = waiting.pop()
        if path in seen or not path.exists():
            continue
        seen.add(path)
        for node in _nodes_at_run_time(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            for name in names:
                if name.startswith("slipway"):
                    base = ROOT / Path(*name.split("."))
                    waiting += [base.with_suffix(".py"), base / "__init__.py"]
    return sorted(seen)


@pytest.mark.parametrize("path", _modules_of_serving(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_nothing_that_serves_can_run_code_from_a_file(path):
    tree = ast.parse(path.read_text())
    for node in _nodes_at_run_time(tree):
        if isinstance(node, ast.Import):
            assert not {alias.name.partition(".")[0] for alias in node.names} & UNSAFE_MODULES
        elif isinstance(node, ast.ImportFrom):
            assert (node.module or "").partition(".")[0] not in UNSAFE_MODULES
        elif isinstance(node, ast.Call):
            assert not (isinstance(node.func, ast.Name) and node.func.id in UNSAFE_CALLS)
            assert "allow_pickle" not in {word.arg for word in node.keywords}
            if isinstance(node.func, ast.Attribute) and ast.unparse(node.func) in ("np.load", "numpy.load", "yaml.load"):
                pytest.fail(f"{ast.unparse(node)} reads objects")


def test_the_running_predictor_has_loaded_no_torch_and_no_pickle_of_its_own(image_bundle):
    code = (
        "import sys; from pathlib import Path\n"
        "from slipway.serving.inference.model import load_model\n"
        "import slipway.serving.process.server\n"
        "load_model(Path(sys.argv[1]), name='m', version='1')\n"
        "print([name for name in ('torch', 'joblib', 'dill', 'cloudpickle', 'kfp', 'mlflow', 'pyarrow') if name in sys.modules])"
    )
    found = subprocess.run(
        [sys.executable, "-c", code, str(image_bundle.root)], capture_output=True, text=True, timeout=60, check=True
    )
    assert found.stdout.strip() == "[]"
