"""A Slipway home of the tests' own, and the command line as a user calls it."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from slipway.settings import child_environment

SLIPWAY = Path(sys.executable).with_name("slipway")
QUICK = ("train.epochs=8",)
"""Enough for digits to reach well over 90 %; the README's run takes the defaults."""


class Home:
    """A Slipway home and the commands run in it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.first_run = ""

    @property
    def environment(self) -> dict[str, str]:
        unset = ("MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID", "KF_PIPELINES_ENDPOINT", "SLIPWAY_RUN_ID")
        return {name: value for name, value in child_environment(SLIPWAY_HOME=str(self.path)).items() if name not in unset}

    def slipway(self, *arguments: str, timeout: float = 280) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [SLIPWAY, *arguments],
            env=self.environment,
            cwd=self.path.parent,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def report(self, run: str = "") -> dict[str, Any]:
        result = self.slipway("report", "--json", *([run] if run else []))
        assert result.returncode == 0, result.stderr
        return json.loads(result.stdout)

    def serving(self, model: str) -> dict[str, Any]:
        return json.loads((self.path / "serving" / model / "current.json").read_text())
