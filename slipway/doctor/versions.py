"""Whether the interpreter and the installed packages are those that work together, from their metadata alone."""

import importlib.metadata
import platform
from collections import deque
from collections.abc import Mapping, Sequence
from importlib.metadata import Distribution

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from slipway.doctor.check import Check, fail, ok, warn

PROJECT = "slipway"
_SETUP = "make setup"
_BUNDLES = ("all", "dev")
"""Extras that only gather others."""

Distributions = Mapping[str, Distribution]


def read_distributions(path: Sequence[str] | None = None) -> Distributions:
    """The installed packages by canonical name; in the folders `path`, else where Python looks."""
    found = importlib.metadata.distributions(path=list(path)) if path is not None else importlib.metadata.distributions()
    by_name: dict[str, Distribution] = {}
    for distribution in found:
        by_name.setdefault(canonicalize_name(distribution.name), distribution)  # the first one is the one imported
    return by_name


def check_python(version: str = "", accepted: str = ">=3.11") -> Check:
    """The interpreter's version."""
    version = version or platform.python_version()
    if SpecifierSet(accepted).contains(version, prereleases=True):
        return ok("python", f"{version} ({platform.system()} {platform.machine()})")
    return fail("python", f"{version}; accepted: {accepted}", "make clean && make setup PYTHON=/path/to/python3.11")


def check_packages(installed: Distributions) -> list[Check]:
    """Every requirement of Slipway and, in turn, of what it requires; and which of its extras are complete."""
    project = installed.get(PROJECT)
    if project is None:
        return [warn("packages", f"{PROJECT} is imported without being installed: its requirements are not known", _SETUP)]
    extras = [extra for extra in project.metadata.get_all("Provides-Extra") or [] if extra not in _BUNDLES]
    lacking = {extra: names for extra in extras if (names := _missing(project, extra, installed))}
    complete = [extra for extra in extras if extra not in lacking]
    conflicts = find_conflicts(installed, complete)
    checks = [
        fail("packages", "; ".join(conflicts), _SETUP)
        if conflicts
        else ok("packages", f"{len(installed)} installed, as {PROJECT} {project.version} and its packages require")
    ]
    if lacking:
        detail = "; ".join(f"{extra} lacks {', '.join(names)}" for extra, names in lacking.items())
        checks.append(warn("extras", detail, f"{_SETUP}, or pip install '{PROJECT}[{','.join(lacking)}]'"))
    else:
        checks.append(ok("extras", ", ".join(complete)))
    return checks


def find_conflicts(installed: Distributions, extras: Sequence[str]) -> list[str]:
    """What is missing or of a refused version among all that Slipway with `extras` requires, directly or through others."""
    conflicts: list[str] = []
    seen: set[tuple[str, str]] = set()
    queue = deque((PROJECT, extra) for extra in ("", *extras))
    while queue:
        name, extra = queue.popleft()
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        for requirement in _requirements(installed[name], extra):
            required = canonicalize_name(requirement.name)
            found = installed.get(required)
            if found is None:
                conflicts.append(f"{name} needs {requirement.name}, which is not installed")
            elif not requirement.specifier.contains(found.version, prereleases=True):
                conflicts.append(f"{name} needs {requirement.name}{requirement.specifier}, and {found.version} is installed")
            else:
                queue.extend((required, wanted) for wanted in ("", *requirement.extras))
    return sorted(set(conflicts))


def _missing(project: Distribution, extra: str, installed: Distributions) -> list[str]:
    names = {canonicalize_name(requirement.name) for requirement in _requirements(project, extra)}
    return sorted(name for name in names if name not in installed)


def _requirements(distribution: Distribution, extra: str) -> list[Requirement]:
    """Those that `extra` adds; with "", those without one."""
    requirements = (Requirement(line) for line in distribution.requires or [])
    return [one for one in requirements if _applies(one, extra)]


def _applies(requirement: Requirement, extra: str) -> bool:
    if requirement.marker is None:
        return extra == ""
    applies = requirement.marker.evaluate({"extra": extra})
    return applies and (extra == "" or not requirement.marker.evaluate({"extra": ""}))
