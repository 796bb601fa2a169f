"""The programs that read manifests: what `.ci/install-tools` puts into its cache."""

import json
import os
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
MANIFESTS = ROOT / "manifests"
SCHEMAS = Path(__file__).parent / "schemas"
Manifest = dict[str, Any]


def find_tool(name: str) -> Path:
    """A program or folder of the cache; without it the test is skipped, and in CI it fails."""
    cache_home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")  # noqa: TID251 - as .ci/install-tools does
    tools = Path(os.environ.get("SLIPWAY_TOOLS") or cache_home / "slipway" / "tools")  # noqa: TID251
    if not (tools / name).exists():
        reason = f"{name} is not in {tools}: run .ci/install-tools"
        if os.environ.get("CI"):  # noqa: TID251
            pytest.fail(reason)
        pytest.skip(reason)
    return tools / name


@cache
def build(folder: Path) -> tuple[Manifest, ...]:
    """The objects of a kustomization. Do not change them: they are built once."""
    done = subprocess.run([find_tool("kustomize"), "build", folder], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, f"kustomize build {folder}: {done.stderr}"
    return tuple(one for one in yaml.load_all(done.stdout, yaml.CSafeLoader) if one)


def build_with(folder: Path, scratch: Path, *components: str, **fields: object) -> tuple[Manifest, ...]:
    """As `build`, with components of manifests/components and further fields of a kustomization on top."""
    content = {
        "resources": [os.path.relpath(folder, scratch)],
        "components": [os.path.relpath(MANIFESTS / "components" / name, scratch) for name in components],
        "namespace": "slipway",
        **fields,
    }
    (scratch / "kustomization.yaml").write_text(yaml.safe_dump(content))
    return build(scratch)


def validate(manifests: tuple[Manifest, ...], schemas: Path) -> list[str]:
    """What kubeconform finds wrong."""
    command = [
        *(find_tool("kubeconform"), "-strict", "-output", "text"),
        *("-schema-location", f"{schemas}/{{{{.ResourceKind}}}}{{{{.KindSuffix}}}}.json", "-"),
    ]
    documents = "\n---\n".join(map(json.dumps, manifests))
    done = subprocess.run(command, input=documents, capture_output=True, text=True, timeout=120, check=False)
    findings = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    assert bool(findings) == bool(done.returncode), findings
    return findings


def gather_schemas(target: Path) -> Path:
    """Kubernetes' own schemas, and ours for custom resources, in one folder, so that ours may refer to theirs."""
    shutil.copytree(find_tool("schemas"), target, dirs_exist_ok=True)
    for path in SCHEMAS.glob("*.json"):
        shutil.copy(path, target)
    return target
