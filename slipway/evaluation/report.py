"""The evaluation as a page for people: self-contained HTML, and Markdown for dashboards."""

import base64
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from slipway.data.manifest import SPLITS, Manifest
from slipway.engines.engine import EngineInfo
from slipway.evaluation.decision import Decision, Rule
from slipway.evaluation.measurement import Evaluation
from slipway.evaluation.report_tables import build_rows, build_slice_rows, format_bytes, slice_headings
from slipway.export.bundle import BundleInfo
from slipway.tasks.registry import load_task
from slipway.tasks.task import Plot, WrongSample

if TYPE_CHECKING:
    import jinja2

RULE_TITLES: dict[Rule, str] = {
    "finite": "Every figure is a number",
    "floor": "Good enough by itself",
    "latency": "Fast enough",
    "comparable": "Same task, same samples",
    "regression": "No worse than the champion",
    "slices": "No class left behind",
}
_HIGHLIGHTED = ("latency_p99_ms", "size_bytes")


@dataclass(frozen=True, kw_only=True)
class ReportContent:
    """All that the page shows."""

    model_name: str
    decision: Decision
    challenger: Evaluation
    champion: Evaluation | None
    """None without a champion, and where it cannot answer these samples."""
    champion_info: BundleInfo | None
    manifest: Manifest
    plots: list[Plot]
    history_plot: Plot | None
    worst: list[WrongSample]
    lineage: dict[str, str]


def render_html(content: ReportContent) -> str:
    """One file that needs nothing beside it: styles and pictures are inside, and no script runs."""
    return _environment().get_template("report.html.j2").render(_variables(content))


def render_markdown(content: ReportContent) -> str:
    """The decision, the reasons and the figures, without pictures."""
    return _environment().get_template("report.md.j2").render(_variables(content))


def _environment() -> "jinja2.Environment":
    import jinja2
    import markupsafe

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("slipway.evaluation"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["data_uri"] = lambda png: "data:image/png;base64," + base64.b64encode(png).decode()
    environment.filters["md"] = lambda text: markupsafe.Markup(escape_markdown(text))  # noqa: S704
    environment.filters["percent"] = lambda share: f"{share * 100:.1f} %"
    return environment


def _variables(content: ReportContent) -> dict[str, object]:
    decision = content.decision
    rows = build_rows(decision, content.challenger, content.champion)
    return {
        "content": content,
        "decision": decision,
        "summary": summarise(decision, has_champion=content.champion_info is not None),
        "rule_titles": RULE_TITLES,
        "rows": rows,
        "highlights": [row for row in rows if row.is_primary or row.name in _HIGHLIGHTED],
        "slice_noun": load_task(content.challenger.info.task).slice_noun,
        "slice_headings": slice_headings(content.challenger),
        "slices": build_slice_rows(decision, content.challenger),
        "data_facts": _data_facts(content.manifest),
        "lineage": _lineage(content),
    }


def summarise(decision: Decision, *, has_champion: bool) -> str:
    """The outcome in one or two sentences."""
    refusals = [reason for reason in decision.reasons if not reason.passed]
    if decision.passed:
        return f"All {len(decision.reasons)} rules are met: this model may serve."
    count = "One rule refuses" if len(refusals) == 1 else f"{len(refusals)} of {len(decision.reasons)} rules refuse"
    return f"{count} this model. {'The champion goes on serving.' if has_champion else 'Nothing is deployed.'}"


def escape_markdown(text: object) -> str:
    """`text` so that neither Markdown nor the HTML it becomes reads any sign of it as its own."""
    plain = " ".join(str(text).split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|~])", r"\\\1", plain)


def describe_engine(engine: EngineInfo) -> str:
    """Engine, version, precision and device, as people read them."""
    return f"{engine.name} {engine.version}, {engine.precision}, {engine.device}, threads: {engine.num_threads}"


def _data_facts(manifest: Manifest) -> dict[str, str]:
    shapes = [" x ".join(str(size) for size in feature.shape) for feature in manifest.features if feature.role == "image"]
    tables = sum(feature.role != "image" for feature in manifest.features)
    facts = {"Data set": manifest.dataset_id, "Task": manifest.task}
    facts |= {f"{split.capitalize()} samples": f"{manifest.num_rows[split]:,}" for split in SPLITS}
    facts["Classes"] = str(len(manifest.class_names))
    if shapes:
        facts["Images"] = ", ".join(shapes)
    if tables:
        facts["Columns"] = str(tables)
    return facts | {_title(name): value for name, value in sorted(manifest.provenance.items())}


def _lineage(content: ReportContent) -> dict[str, str]:
    info = content.challenger.info
    facts = {
        "Bundle": info.bundle_id,
        "Trained on data set": info.dataset_id,
        "Architecture": info.architecture,
        "Code": info.code_version,
        "ONNX opset": str(info.opset),
        "Largest difference of ONNX from torch": f"{info.parity_max_difference:.2g}",
        "Run by": describe_engine(content.challenger.engine),
        "Predictions timed": str(content.challenger.latency.num_predictions),
    }
    facts |= {_title(name): _format_count(name, value) for name, value in info.model.items()}
    if content.champion is not None:
        facts["Champion run by"] = describe_engine(content.champion.engine)
    if content.champion_info is not None:
        facts["Champion's bundle"] = content.champion_info.bundle_id
        facts["Champion was trained on data set"] = content.champion_info.dataset_id
    return facts | content.lineage


def _title(name: str) -> str:
    return name.removesuffix("_bytes").replace("_", " ").capitalize()


def _format_count(name: str, value: float) -> str:
    return format_bytes(value) if name.endswith("_bytes") else f"{value:,.0f}"
