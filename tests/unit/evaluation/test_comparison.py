import json
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from slipway.config import GateConfig
from slipway.data.dataset import Dataset
from slipway.errors import BundleError, DatasetCorruptError, EvaluationError
from slipway.evaluation.comparison import EvaluationResult, evaluate_challenger, read_evaluation
from slipway.evaluation.measurement import evaluate_bundle
from slipway.export.bundle import read_bundle, write_bundle
from slipway.export.signature import TensorSpec

HISTORY = [
    {"epoch": epoch, "train_loss": 1 / epoch, "validation_loss": 1.2 / epoch, "validation_score": 0.9, "learning_rate": 0.1}
    for epoch in range(1, 6)
]
HOSTILE_NAMES = ("<script>alert(1)</script>", "a|b `c` ![x](http://x)", '"><img src=x onerror=alert(1)>')


class Page(HTMLParser):
    """The tags, attributes and text of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.text += data


def rules_refusing(result: EvaluationResult) -> list[str]:
    return [reason.rule for reason in result.decision.reasons if not reason.passed]


def words(result: EvaluationResult, rule: str) -> str:
    return next(reason.message for reason in result.decision.reasons if reason.rule == rule)


def test_a_better_challenger_passes_and_everything_is_written(tmp_path, dataset_dir, make_bundle):
    good, weak = make_bundle("good"), make_bundle("weak", blind_to=(1,))
    result = evaluate_challenger(good, weak, dataset_dir, GateConfig(), tmp_path / "out", history=HISTORY, model_name="bands")
    assert result.decision.passed
    assert (result.metrics["accuracy"], result.champion_metrics["accuracy"]) == (1.0, pytest.approx(2 / 3))
    assert result.metrics["size_bytes"] == (good / "model.onnx").stat().st_size
    assert 0 < result.metrics["latency_p50_ms"] <= result.metrics["latency_p99_ms"]
    assert result.confusion_matrix == [[40, 0, 0], [0, 40, 0], [0, 0, 40]]
    assert result.class_names == ["left", "middle", "right"]
    assert read_evaluation(tmp_path / "out") == result
    assert sorted(path.name for path in result.output_dir.rglob("*")) == sorted(
        [
            "decision.json", "metrics.json", "predictions.parquet", "report.html", "report.md", "plots",
            "confusion_matrix.png", "roc.png", "precision_recall.png", "reliability.png", "history.png",
        ]
    )  # fmt: skip
    json.loads((result.output_dir / "metrics.json").read_text(), parse_constant=pytest.fail)


def test_predictions_hold_what_the_bundle_answered_for_each_test_sample(tmp_path, dataset_dir, make_bundle):
    result = evaluate_challenger(make_bundle("weak", blind_to=(2,)), None, dataset_dir, GateConfig(), tmp_path / "out")
    table = pq.read_table(result.predictions)
    dataset = Dataset.open(dataset_dir)
    assert table["sample_id"].to_pylist() == dataset.sample_ids("test")
    np.testing.assert_array_equal(table["target"].to_numpy(), dataset.labels("test"))
    answers = np.stack(table["probabilities"].to_numpy()).argmax(axis=1)
    np.testing.assert_array_equal(table["score"].to_numpy(), answers == dataset.labels("test"))


def test_a_challenger_that_is_blind_to_one_class_is_refused_beside_a_champion_that_sees_it(tmp_path, dataset_dir, make_bundle):
    policy = GateConfig(min_score=0.5)
    weak, good = make_bundle("weak", blind_to=(1,)), make_bundle("good")
    result = evaluate_challenger(weak, good, dataset_dir, policy, tmp_path / "out")
    assert rules_refusing(result) == ["regression", "slices"]
    assert "'middle' from 1.0000 to 0.0000 (40 samples)" in words(result, "slices")
    assert "The champion goes on serving." in Page(result.report_html.read_text()).text


def test_a_model_that_answers_nan_is_refused_with_a_report_instead_of_a_crash(tmp_path, dataset_dir, make_bundle):
    broken, good = make_bundle("broken", poison=np.nan), make_bundle("good")
    result = evaluate_challenger(broken, good, dataset_dir, GateConfig(), tmp_path / "out", history=HISTORY)
    assert "finite" in rules_refusing(result)
    assert "output 'probabilities' is NaN or infinite for 120 of 120 test samples" in words(result, "finite")
    assert "accuracy" not in result.metrics
    assert result.confusion_matrix == []
    assert "NaN or infinite" in result.report_markdown.read_text()


def test_a_champion_of_other_classes_refuses_with_the_way_out_and_is_not_run(tmp_path, make_dataset, make_bundle):
    names = ("left", "middle", "east")
    dataset_dir = make_dataset("renamed", class_names=names)
    result = evaluate_challenger(
        make_bundle("new", class_names=names), make_bundle("old"), dataset_dir, GateConfig(), tmp_path / "out"
    )
    assert rules_refusing(result) == ["comparable"]
    assert "new: east; gone: right" in words(result, "comparable")
    assert "deploy.model_name=NAME" in words(result, "comparable")
    assert result.champion_metrics == {}
    assert "The champion goes on serving." in result.report_markdown.read_text()


def test_a_champion_of_other_inputs_or_another_task_refuses_with_the_way_out(tmp_path, dataset_dir, make_bundle):
    good = make_bundle("good")
    for name, changes in {"colour": {"channels": 3}, "table": {"task": "tabular-classification"}}.items():
        result = evaluate_challenger(good, make_bundle(name, **changes), dataset_dir, GateConfig(), tmp_path / f"out-{name}")
        assert rules_refusing(result) == ["comparable"]
        assert "deploy.model_name=NAME" in words(result, "comparable")


def test_a_challenger_for_another_kind_of_data_is_an_error_and_leaves_nothing(tmp_path, dataset_dir, make_bundle):
    with pytest.raises(EvaluationError, match="lacks the inputs image"):
        evaluate_challenger(make_bundle("colour", channels=3), None, dataset_dir, GateConfig(), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_damaged_bundle_or_data_set_is_an_error_that_keeps_the_last_evaluation(tmp_path, dataset_dir, make_bundle):
    good = make_bundle("good")
    before = evaluate_challenger(good, None, dataset_dir, GateConfig(), tmp_path / "out")
    tampered = Path(shutil.copytree(good, tmp_path / "tampered"))
    (tampered / "model.onnx").write_bytes(b"no model")
    with pytest.raises(BundleError, match="was altered"):
        evaluate_challenger(tampered, None, dataset_dir, GateConfig(), tmp_path / "out")
    write_bundle(tampered, read_bundle(good).info, [])
    with pytest.raises(BundleError, match="ONNX Runtime can load"):
        evaluate_challenger(tampered, None, dataset_dir, GateConfig(), tmp_path / "out")
    shard = next(shard for shard in Dataset.open(dataset_dir).manifest.shards if shard.split == "test")
    copy = Path(shutil.copytree(dataset_dir, tmp_path / "copy"))
    (copy / shard.path).write_bytes((copy / shard.path).read_bytes()[:-10])
    with pytest.raises(DatasetCorruptError, match="bytes where the manifest says"):
        evaluate_challenger(good, None, copy, GateConfig(), tmp_path / "out")
    assert read_evaluation(tmp_path / "out") == before


def test_an_output_of_another_shape_than_the_bundle_states_is_an_error(tmp_path, dataset_dir, make_bundle):
    bundle = make_bundle("good")
    info = read_bundle(bundle).info
    wide = replace(info.signature, outputs=(TensorSpec(name="probabilities", dtype="float32", shape=(None, 4)),))
    write_bundle(bundle, replace(info, signature=wide), [])
    with pytest.raises(EvaluationError, match=r"'probabilities' has the shape \[\d+, 3\]"):
        evaluate_bundle(read_bundle(bundle), Dataset.open(dataset_dir))


def test_the_report_needs_nothing_beside_it_and_runs_nothing(tmp_path, dataset_dir, make_bundle):
    weak = make_bundle("weak", blind_to=(1,))
    result = evaluate_challenger(weak, make_bundle("good"), dataset_dir, GateConfig(), tmp_path / "out", history=HISTORY)
    page = Page(result.report_html.read_text())
    assert "script" not in page.tags
    assert "link" not in page.tags
    sources = [value for name, value in page.attributes if name in ("src", "href")]
    assert len(sources) == 5 + 24  # the pictures and the worst mistakes
    assert all(value and value.startswith("data:image/png;base64,") for value in sources)
    for words_of_the_page in (
        "Refused",
        "The accuracy of 0.6667 misses the floor",
        "middle taken for",
        "Course of training",
        "bands-0-3",
    ):
        assert words_of_the_page in " ".join(page.text.split())


def test_names_from_the_data_are_shown_as_text_and_never_read_as_markup(tmp_path, make_dataset, make_bundle):
    dataset_dir = make_dataset("hostile", class_names=HOSTILE_NAMES)
    changes = {"class_names": HOSTILE_NAMES}
    challenger, champion = make_bundle("weak", blind_to=(0,), **changes), make_bundle("good", **changes)
    lineage = {"<b>run</b>": "<script>alert(2)</script>"}
    result = evaluate_challenger(
        challenger, champion, dataset_dir, GateConfig(), tmp_path / "out", model_name="<i>name</i>", lineage=lineage
    )
    html = result.report_html.read_text()
    page = Page(html)
    assert not {"script", "i"} & set(page.tags)
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert all(text in page.text for text in (*HOSTILE_NAMES, "<i>name</i>", "<b>run</b>"))
    markdown = result.report_markdown.read_text()
    assert "<" not in markdown
    assert "![" not in markdown
    table_rows = [line for line in markdown.splitlines() if "a\\|b" in line and "not judged" not in line]
    assert table_rows
    assert all(line.replace("\\|", "").count("|") in (4, 7) for line in table_rows)


def test_a_folder_without_a_whole_evaluation_is_an_error(tmp_path, dataset_dir, make_bundle):
    result = evaluate_challenger(make_bundle("good"), None, dataset_dir, GateConfig(), tmp_path / "out")
    (result.output_dir / "metrics.json").write_text("{}")
    with pytest.raises(EvaluationError, match="does not hold a whole evaluation"):
        read_evaluation(result.output_dir)
