"""What evaluation hands to deployment: `verdict.json` beside the decision and the figures."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from slipway.storage.files import write_json
from slipway.tracking.registry import Lineage

VERDICT_NAME = "verdict.json"


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """A judged version."""

    model_name: str
    model_version: str
    champion: str
    """Id of the bundle that it was compared with; "" where nothing served."""
    tracking_run_id: str
    """MLflow's run of the training."""
    lineage: Lineage


def write_verdict(evaluation_dir: Path, verdict: Verdict) -> None:
    """Write `verdict.json`."""
    write_json(evaluation_dir / VERDICT_NAME, asdict(verdict))


def read_verdict(evaluation_dir: Path) -> Verdict:
    """Read `verdict.json`."""
    content = json.loads((evaluation_dir / VERDICT_NAME).read_text())
    lineage = content.pop("lineage")
    return Verdict(**content, lineage=Lineage(**{**lineage, "gate_reasons": tuple(lineage["gate_reasons"])}))
