"""Import modules as an image would: whatever its lock file does not name cannot be found. A process of its own runs this.

python -m tests.contract.locked_imports LOCK MODULE... follows imports inside functions too, as far as they stay in slipway, and
prints each name that the image lacks. An import beneath `try` may lack what it asks for.
"""

import ast
import importlib
import re
import sys
from collections.abc import Iterator, Sequence
from importlib.metadata import packages_distributions
from pathlib import Path
from types import ModuleType


class _OnlyLocked:
    """Finds nothing, loudly, where a package belongs to a distribution that is not among those allowed."""

    def __init__(self, allowed: set[str]) -> None:
        self._owners = {package: {_normalize(one) for one in owners} for package, owners in packages_distributions().items()}
        self._allowed = allowed

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> None:
        """As the import system asks."""
        if not self.holds(name):
            raise ModuleNotFoundError(f"{name} is not in the lock file", name=name)

    def holds(self, name: str) -> bool:
        """Whether a module is the standard library's, ours, or that of a distribution which the lock file names."""
        owners = self._owners.get(name.partition(".")[0], set())
        return not owners or bool(owners & self._allowed)


def _normalize(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _imports(nodes: Sequence[ast.AST]) -> Iterator[str]:
    """The modules that these statements import, but for those beneath `try` and `if TYPE_CHECKING`."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names if node.module.startswith("slipway"))
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            yield from _imports(node.orelse)
        elif not isinstance(node, ast.Try):
            yield from _imports(list(ast.iter_child_nodes(node)))


def _is_ours(name: str) -> bool:
    return name.partition(".")[0] == "slipway"


def find_missing(finder: _OnlyLocked, entries: Sequence[str]) -> set[str]:
    """`module: name` for each import of the entries, and of what they import of ours, that the image cannot make."""
    waiting, seen, missing = list(entries), set[str](), set[str]()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        try:
            module = importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is None or not _is_ours(error.name):  # ours: a name within a module, no module itself
                missing.add(f"{name}: {error.name}")
            continue
        for imported in _imports(ast.parse(Path(module.__file__ or "").read_text()).body):
            if _is_ours(imported):
                waiting.append(imported)
            elif not finder.holds(imported):
                missing.add(f"{name}: {imported}")
    return missing


if __name__ == "__main__":
    lock, *modules = sys.argv[1:]
    locked = {_normalize(name) for name in re.findall(r"^([A-Za-z0-9._-]+)==", Path(lock).read_text(), re.MULTILINE)}
    only_locked = _OnlyLocked(locked)
    sys.meta_path.insert(0, only_locked)  # type: ignore[arg-type]
    print("\n".join(sorted(find_missing(only_locked, modules))))
