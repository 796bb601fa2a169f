"""The container images: what each may hold, how it is built, and that what is tested is what ships."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from images.build import IMAGES, REGISTRY
from pipelines.images import choose_images
from tests.cluster_images.build import STAND_INS
from tests.integration.images import choose_loading, hash_inputs

ROOT = Path(__file__).parents[2]
DOCKERFILES = {folder: ROOT / "images" / folder / "Dockerfile" for folder in IMAGES}
STAND_IN_DOCKERFILES = {folder: ROOT / "tests" / "cluster_images" / folder / "Dockerfile" for folder in STAND_INS}
LOCKS = sorted(path for path in (ROOT / "requirements").glob("*.txt"))
EXTRAS = {
    "pipeline": ("data", "evaluate", "deploy", "tracking-client", "storage"),
    "trainer": ("train", "export", "tracking-client", "storage", "cluster"),
    "predictor": ("serve",),
}
ABSENT = {
    "pipeline": {"torch", "torchvision", "triton", "mlflow", "kfp", "pandas"},
    "trainer": {"scikit-learn", "scipy", "matplotlib", "pandas", "mlflow", "kfp"},
    "predictor": {
        *("torch", "torchvision", "triton", "kfp", "kubernetes", "mlflow", "mlflow-skinny", "scikit-learn", "scipy"),
        *("pandas", "matplotlib", "pyarrow", "onnx", "onnxscript", "minio", "boto3"),
    },
    "mlflow": {"torch", "torchvision", "triton", "kfp", "onnxruntime"},
}
ENTRIES = {
    "predictor": ["slipway.serving.__main__"],
    "pipeline": [
        *(f"slipway.stages.{stage}" for stage in ("ingest", "preprocess", "evaluate", "deploy", "finish")),
        *(f"slipway.tasks.{task}.task" for task in ("image_classification", "tabular_classification")),
    ],
    "trainer": [
        *("slipway.stages.train", "slipway.training.__main__"),
        *(f"slipway.tasks.{task}.training" for task in ("image_classification", "tabular_classification")),
    ],
}
NEVER_REACHED = {
    "predictor": set[str](),
    "pipeline": {"sqlalchemy"},  # MLflow's SQLite file: in a cluster a server keeps the runs
    "trainer": {"sqlalchemy", "sklearn", "matplotlib"},  # the tasks' figures and pictures: evaluation's
}


def locked_versions(name: str) -> dict[str, str]:
    """Distribution to version; a lock has one version of each."""
    found = re.findall(r"^([A-Za-z0-9._-]+)==(\S+)", (ROOT / "requirements" / f"{name}.txt").read_text(), re.MULTILINE)
    assert len({name for name, _ in found}) == len(found)
    return {canonicalize_name(name): version for name, version in found}


def instructions(dockerfile: Path) -> list[str]:
    """One string an instruction, without comments."""
    text = re.sub(r"^#.*\n", "", dockerfile.read_text(), flags=re.MULTILINE)
    return [" ".join(line.split()) for line in text.replace("\\\n", " ").splitlines() if line.strip()]


def final_stage(dockerfile: Path) -> list[str]:
    lines = instructions(dockerfile)
    return lines[max(index for index, line in enumerate(lines) if line.startswith("FROM ")) :]


@pytest.mark.parametrize("image", ABSENT)
def test_an_image_holds_nothing_that_its_work_does_not_need(image):
    assert not ABSENT[image] & set(locked_versions(image))
    if image != "trainer":
        assert not [name for name in locked_versions(image) if name.startswith("nvidia-")]


@pytest.mark.parametrize("image", EXTRAS)
def test_a_lock_holds_what_pyproject_asks_for(image):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    versions = locked_versions(image)
    asked = [*project["dependencies"], *(one for extra in EXTRAS[image] for one in project["optional-dependencies"][extra])]
    for requirement in map(Requirement, asked):
        if requirement.name == project["name"]:
            continue
        assert versions.get(canonicalize_name(requirement.name)) in requirement.specifier, f"{requirement}: run `make lock`"


@pytest.mark.parametrize("name", ["pipeline", "trainer", "predictor", "mlflow", "torch", "kfp"])
def test_what_is_tested_is_what_ships(name):
    tested = locked_versions("dev")
    shared = {package: version for package, version in locked_versions(name).items() if package in tested}
    assert shared
    assert shared == {package: tested[package] for package in shared}


def test_the_trainer_finds_its_torch_layer_complete():
    trainer = locked_versions("trainer")
    assert locked_versions("torch").items() <= trainer.items()


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.stem)
def test_a_lock_has_a_hash_for_each_requirement_and_no_address(lock):
    entries = re.split(r"^(?=[A-Za-z0-9])", re.sub(r"^\s*#.*\n", "", lock.read_text(), flags=re.MULTILINE), flags=re.MULTILINE)[
        1:
    ]
    assert entries
    for entry in entries:
        assert re.match(r"^[A-Za-z0-9._-]+==[^\s;]+( ; .+)? \\\n", entry), entry.splitlines()[0]
        assert "--hash=sha256:" in entry, entry.splitlines()[0]
    assert "://" not in lock.read_text()


@pytest.mark.parametrize("image", ENTRIES)
def test_an_image_can_import_what_it_runs(image):
    """Were the import of scikit-learn put into serving, the predictor would not start; here that shows without building it."""
    lock = ROOT / "requirements" / f"{image}.txt"
    command = [sys.executable, "-m", "tests.contract.locked_imports", str(lock), *ENTRIES[image]]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=True)
    missing = [line for line in done.stdout.split("\n") if line]
    assert not [line for line in missing if line.split(": ")[1].partition(".")[0] not in NEVER_REACHED[image]]


@pytest.mark.parametrize("path", [*DOCKERFILES.values(), *STAND_IN_DOCKERFILES.values()], ids=lambda path: path.parent.name)
def test_a_dockerfile_names_its_bases_with_a_version(path):
    arguments = dict(re.findall(r"^ARG (\w+)=(\S+)", path.read_text(), re.MULTILINE))
    bases = [line.split()[1] for line in instructions(path) if line.startswith("FROM ")]
    for base in bases:
        name = re.sub(r"\$\{(\w+)\}", lambda found: arguments[found[1]], base)
        _, _, tag = name.rpartition("/")[2].partition(":")
        assert tag, f"{name} has no tag"
        assert tag != "latest"
        assert "." in name.partition("/")[0], f"{name} lacks its registry: podman and buildah would ask which"


@pytest.mark.parametrize("path", [*DOCKERFILES.values(), *STAND_IN_DOCKERFILES.values()], ids=lambda path: path.parent.name)
def test_an_image_runs_as_a_numbered_user_that_is_not_root(path):
    (user,) = [line for line in final_stage(path) if line.startswith("USER ")]
    assert re.fullmatch(r"USER [1-9]\d*:[1-9]\d*", user)


@pytest.mark.parametrize("path", DOCKERFILES.values(), ids=lambda path: path.parent.name)
def test_our_images_work_with_a_root_file_system_that_cannot_be_written(path):
    final = final_stage(path)
    assert "USER 1000:1000" in final
    assert "WORKDIR /tmp" in final
    (environment,) = [line for line in final if line.startswith("ENV ")]
    assert {"HOME=/tmp", "PYTHONDONTWRITEBYTECODE=1"} <= set(environment.split())


@pytest.mark.parametrize("path", DOCKERFILES.values(), ids=lambda path: path.parent.name)
def test_our_images_say_what_they_are_and_from_which_commit(path):
    labels = set(re.findall(r"org\.opencontainers\.image\.(\w+)=", " ".join(final_stage(path))))
    assert {"title", "description", "licenses", "source", "revision", "version"} <= labels
    (title,) = re.findall(r'image\.title="([^"]+)"', path.read_text())
    assert title == IMAGES[path.parent.name]


@pytest.mark.parametrize("path", DOCKERFILES.values(), ids=lambda path: path.parent.name)
def test_packages_are_installed_from_hashes_and_never_built(path):
    installs = [line for line in instructions(path) if line.startswith("RUN ") and " install " in line]
    assert installs
    for line in installs:
        assert "--require-hashes" in line
        assert "--only-binary :all:" in line
        assert ("--no-deps" in line) == ("/kfp.txt" in line), "the executor alone, without what kfp pins"


@pytest.mark.parametrize("folder", ["pipeline", "trainer", "predictor"])
def test_a_change_of_our_source_moves_the_last_layer_alone(folder):
    final = final_stage(DOCKERFILES[folder])
    (source,) = [index for index, line in enumerate(final) if line.startswith("COPY --from=source ")]
    assert not [line for line in final[source + 1 :] if line.startswith(("RUN ", "COPY ", "ADD "))]
    assert not [line for line in final[:source] if "slipway " in line.removeprefix("RUN echo") and line.startswith("COPY ")]


def test_torch_lies_in_a_layer_of_its_own():
    runs = [line for line in final_stage(DOCKERFILES["trainer"]) if line.startswith("RUN ") and " install " in line]
    assert [re.findall(r"/(\w+)\.txt", line) for line in runs] == [["torch"], ["trainer"], ["kfp"]]


def test_the_images_see_the_sources_and_locks_and_nothing_else():
    patterns = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert patterns[0] == "*"
    allowed = {pattern[1:] for pattern in patterns if pattern.startswith("!")}
    copied = {
        source
        for path in DOCKERFILES.values()
        for line in instructions(path)
        if line.startswith("COPY ") and "--from=" not in line
        for source in line.split()[1:-1]
    }
    assert allowed == {"requirements/*.txt", "slipway"}
    for source in copied:
        assert (ROOT / source).exists()
        assert source == "slipway" or Path(source).match("requirements/*.txt")


def test_each_image_that_is_named_is_one_that_is_built_here_or_is_pinned_in_the_one_place():
    ours = {f"{REGISTRY}/{name}" for name in IMAGES.values()}
    tasks = choose_images()
    assert {name.rpartition(":")[0] for name in (tasks.pipeline, tasks.trainer)} <= ours
    pinned = yaml.safe_load((ROOT / "manifests" / "base" / "kustomization.yaml").read_text())["images"]
    assert {image["name"] for image in pinned} <= ours | set(STAND_INS.values())


def test_an_unknown_image_is_refused_with_the_names_that_exist():
    command = [sys.executable, str(ROOT / "images" / "build.py"), "pipelin"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "no image pipelin; accepted: pipeline, trainer, predictor, mlflow" in done.stderr


@pytest.fixture
def checkout(tmp_path):
    """A copy of what images are made from."""
    shutil.copy2(ROOT / ".dockerignore", tmp_path)
    for folder in ("images", "requirements", "slipway"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    return tmp_path


def test_a_change_of_an_input_makes_a_new_image_and_nothing_else_does(checkout):
    before = {folder: hash_inputs(folder, checkout) for folder in IMAGES}
    (checkout / "slipway" / "__pycache__").mkdir(exist_ok=True)
    (checkout / "slipway" / "__pycache__" / "new.pyc").write_bytes(b"")
    (checkout / "requirements" / "dev.txt").write_text("")
    os.utime(checkout / "slipway" / "config.py", (0, 0))
    assert {folder: hash_inputs(folder, checkout) for folder in IMAGES} == before

    (checkout / "slipway" / "config.py").write_text("changed")
    assert {folder for folder in IMAGES if hash_inputs(folder, checkout) != before[folder]} == {
        "pipeline",
        "trainer",
        "predictor",
    }

    (checkout / "requirements" / "mlflow.txt").write_text("changed")
    assert hash_inputs("mlflow", checkout) != before["mlflow"]


def test_an_unknown_cluster_is_refused_with_what_to_set():
    assert choose_loading("kind-slipway", {}).command == ("kind", "load", "docker-image", "--name", "slipway")
    with pytest.raises(RuntimeError, match="'somewhere' is not known: set SLIPWAY_LOAD_IMAGES"):
        choose_loading("somewhere", {})
    with pytest.raises(RuntimeError, match="CLUSTER_COMMAND"):
        choose_loading("dev-cluster", {"CLUSTER_COMMAND": "/nowhere/cluster"})
    own = choose_loading("somewhere", {"SLIPWAY_LOAD_IMAGES": "my-load --to 'there'", "CONTAINER_TOOL": "podman"})
    assert (own.command, own.tool) == (("my-load", "--to", "there"), "podman")
