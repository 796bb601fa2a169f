from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from sklearn.linear_model import LogisticRegression

from slipway.config import Config, ExportConfig, GateConfig, ModelConfig
from slipway.engines.choice import SMALL_MACS, open_engine
from slipway.engines.processor import computes_natively
from slipway.export.bundle import INT8_NAME, read_bundle
from slipway.export.golden import expect_answer, find_fault
from slipway.export.onnx import TrainedModel, export_bundle
from slipway.export.reduction import reduce_precision, wanted_precisions
from slipway.models.info import ModelInfo
from slipway.tasks.registry import load_task, load_training_task

INFO = ModelInfo(parameters=1, trainable_parameters=1, macs=1, size_bytes=4)
needs_vnni = pytest.mark.skipif(not computes_natively("int8"), reason="the processor has no VNNI")


def export(dataset, bundle_dir, seed=0, **config):
    torch.manual_seed(seed)
    name = dataset.manifest.task
    training_task = load_training_task(name)
    network = training_task.build_network(dataset.manifest, ModelConfig(width=0.5))
    trained = TrainedModel(network=network, architecture="simple-cnn", metrics={}, info=INFO)
    export_bundle(
        bundle_dir,
        dataset=dataset,
        task=load_task(name),
        training_task=training_task,
        trained=trained,
        config=ExportConfig(**config),
    )
    return read_bundle(bundle_dir)


def linear_model(dataset, shift):
    """Fitted to the training split, with its classes moved on by `shift`."""
    images = dataset.read_column("train", "image").reshape(-1, 64) / np.float32(255)
    fitted = LogisticRegression(max_iter=300).fit(images, dataset.labels("train"))
    weights, bias = np.roll(fitted.coef_.T / 255, shift, axis=1), np.roll(fitted.intercept_, shift)
    nodes = [
        helper.make_node("Cast", ["image"], ["values"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["values"], ["flat"]),
        helper.make_node("Gemm", ["flat", "weights", "bias"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    tensors = {"weights": weights, "bias": bias}
    graph = helper.make_graph(
        nodes,
        "linear",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["n", 8, 8, 1])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", 10])],
        [numpy_helper.from_array(values.astype(np.float32), name) for name, values in tensors.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def test_a_small_network_is_not_tried_and_fp32_is_not_either():
    assert wanted_precisions(ExportConfig(), SMALL_MACS - 1) == ()
    assert wanted_precisions(ExportConfig(), SMALL_MACS) == ("int8", "bf16")
    assert wanted_precisions(ExportConfig(precision="fp32"), 1e12) == ()
    assert wanted_precisions(ExportConfig(precision="int8"), 1.0) == ("int8",)


def test_no_more_may_be_lost_than_the_gate_lets_through():
    config = Config(export=ExportConfig(max_drop=0.01), gate=GateConfig(max_regression=0.003))
    assert config.effective_export().max_drop == 0.003
    assert replace(config, gate=GateConfig(max_regression=0.5)).effective_export().max_drop == 0.01


@needs_vnni
def test_int8_that_loses_nothing_is_kept_and_served(digits, tmp_path):
    bundle = export(digits, tmp_path / "bundle", precision="int8", max_drop=1.0)
    (int8,) = bundle.info.precisions
    assert int8.kept
    assert bundle.info.default_precision == "int8"
    assert INT8_NAME in bundle.info.files
    kinds = {node.op_type for node in onnx.load(bundle.file_of("int8")).graph.node}
    assert {"QuantizeLinear", "DequantizeLinear", "Resize"} <= kinds
    assert int8.speed_up > 0
    assert int8.golden_difference > 0
    for engine in ("openvino", "onnxruntime"):
        opened = open_engine(bundle, engine=engine)
        assert opened.info.precision == "int8"
        for example in bundle.golden:
            expected = expect_answer(example, bundle.info.precisions, "int8")
            assert not find_fault(opened.predict(example.inputs), expected)


@needs_vnni
def test_the_int8_model_of_other_weights_is_not_taken_for_it(digits, tmp_path):
    ours, other = (export(digits, tmp_path / str(seed), seed, precision="int8", max_drop=1.0) for seed in (0, 1))
    engine = open_engine(other)
    assert any(
        find_fault(engine.predict(example.inputs), expect_answer(example, ours.info.precisions, "int8"))
        for example in ours.golden
    )


@needs_vnni
def test_int8_that_loses_too_much_is_not_kept_and_says_so(digits, tmp_path):
    task = load_task("image-classification")
    float_path, int8_path = tmp_path / "model.onnx", tmp_path / "model.int8.onnx"
    float_path.write_bytes(linear_model(digits, shift=0).SerializeToString())

    def write_int8():
        int8_path.write_bytes(linear_model(digits, shift=1).SerializeToString())  # answers each class with the next one
        return int8_path

    found = reduce_precision(
        float_path,
        write_int8,
        dataset=digits,
        task=task,
        signature=task.signature(digits.manifest),
        golden_inputs=[task.read_inputs(digits, "test", np.array([0]))],
        config=ExportConfig(precision="int8"),
        macs=1.0,
    )
    (int8,) = found.precisions
    assert (found.default, found.engines, int8.kept, int8.file) == ("fp32", {}, False, "")
    assert int8.drop > 0.8
    assert "of the accuracy on the validation split, where 0.02 is allowed (export.max_drop" in int8.reason
    assert not int8_path.exists()


def test_without_the_instructions_nothing_is_tried_and_the_bundle_says_why(digits, tmp_path, monkeypatch):
    monkeypatch.setattr("slipway.engines.processor.read_flags", frozenset)
    bundle = export(digits, tmp_path / "bundle", precision="int8")
    (int8,) = bundle.info.precisions
    assert not int8.kept
    assert "avx512_vnni" in int8.reason


def test_a_table_of_strings_has_no_bf16_and_its_bundle_says_why(table, tmp_path):
    bundle = export(table, tmp_path / "bundle", precision="bf16")
    (bf16,) = bundle.info.precisions
    assert (bf16.kept, bundle.info.default_precision) == (False, "fp32")
    assert "no strings" in bf16.reason or "no processor" in bf16.reason


@needs_vnni
def test_a_table_of_strings_is_judged_in_int8_by_the_engine_that_takes_it(table, tmp_path):
    bundle = export(table, tmp_path / "bundle", precision="int8", max_drop=1.0)
    assert [info.kept for info in bundle.info.precisions] == [True]
    assert open_engine(bundle).info.name == "onnxruntime"


def test_a_bundle_of_images_says_how_far_jpegs_are_scaled_down(digits, tmp_path):
    assert export(digits, tmp_path / "bundle").info.image_min_side == 512


def test_a_tables_bundle_says_what_its_columns_held(table, tmp_path):
    info = export(table, tmp_path / "bundle").info
    assert [column.name for column in info.columns] == [spec.name for spec in info.signature.inputs]
    assert info.categories == {"favourite color": ("blue", "grün", "red")}
    height = next(column for column in info.columns if column.name == "height/cm")
    assert 100 < height.minimum < 170 < height.maximum < 240
    assert info.image_min_side is None
