"""Which engine runs a bundle, and in which precision."""

import importlib.util
from contextlib import suppress
from pathlib import Path
from typing import Literal

from slipway.engines.engine import Engine, EngineName
from slipway.engines.processor import computes_natively, needed_flags
from slipway.errors import BundleError, ConfigError
from slipway.export.bundle import Bundle, BundleInfo
from slipway.export.precision import Precision
from slipway.export.signature import Signature

SMALL_MACS = 10_000_000
"""Multiply-accumulates of a network below which ONNX Runtime is as fast in fp32, and starts in a third of the time."""

Device = Literal["cpu", "cuda"]


def open_engine(
    bundle: Bundle,
    *,
    engine: Literal["auto"] | EngineName = "auto",
    precision: Literal["auto"] | Precision = "auto",
    device: Literal["auto"] | Device = "auto",
    num_threads: int = 1,
) -> Engine:
    """Load a bundle's model into the engine that suits the bundle and this machine.

    Args:
        bundle: With files that have been checked.
        engine: "auto" takes OpenVINO, and ONNX Runtime where that cannot run the bundle or gains nothing.
        precision: "auto" takes the bundle's default where this processor computes it natively, else fp32.
        device: "auto" takes a CUDA device where ONNX Runtime's build for CUDA is installed and the machine has one.
        num_threads: That one prediction may use.

    Raises:
        BundleError: the model is missing, cannot be loaded, or is not what its bundle states.
        ConfigError: what was asked for does not fit the bundle or this machine.
    """
    if _choose_device(device, engine, precision) == "cuda":
        return _open_cuda(bundle, precision, num_threads)
    chosen, why = _choose_precision(bundle, precision, engine)
    if engine == "auto":
        return _open_best(bundle, chosen, why, num_threads, is_asked_for=precision != "auto")
    if engine == "openvino":
        if obstacle := find_obstacle(bundle.info.signature):
            raise ConfigError(f"The engine is 'openvino', but {obstacle}; accepted: auto, onnxruntime.")
        try:
            return _open_openvino(bundle, chosen, f"OpenVINO was asked for. {why}", num_threads)
        except ImportError as error:
            raise ConfigError(
                f"The engine is 'openvino', which cannot be loaded here ({error}); accepted: auto, onnxruntime."
            ) from None
    if chosen == "bf16":
        if precision == "bf16":
            raise ConfigError("ONNX Runtime does not compute in bf16; accepted: fp32, int8 where the bundle has it, or openvino.")
        chosen, why = "fp32", "ONNX Runtime does not compute in bf16."
    return _open_onnx_runtime(bundle, chosen, f"ONNX Runtime was asked for. {why}", num_threads)


def import_library(
    info: BundleInfo, engine: Literal["auto"] | EngineName = "auto", precision: Literal["auto"] | Precision = "auto"
) -> None:
    """Import what `open_engine` is likely to need. Where that cannot be imported, `open_engine` says why."""
    likely = info.default_precision if precision == "auto" else precision
    if engine == "auto":
        engine = "onnxruntime" if _find_hindrance(info, likely) else "openvino"
    with suppress(ImportError):
        if engine == "openvino":
            from slipway.engines.openvino import import_openvino

            import_openvino()
        else:
            from slipway.engines.onnx_runtime import import_onnxruntime

            import_onnxruntime()


def find_obstacle(signature: Signature) -> str:
    """Why OpenVINO cannot run a model; "" where it can."""
    for dtype, reason in (("string", "takes no strings"), ("int64", "computes 64-bit integers in 32 bits")):
        names = [spec.name for spec in signature.inputs if spec.dtype == dtype]
        if names:
            return f"OpenVINO {reason}, and the model takes them ({', '.join(names[:3])})"
    return ""


def _open_best(bundle: Bundle, precision: Precision, why: str, num_threads: int, *, is_asked_for: bool) -> Engine:
    obstacle = _find_hindrance(bundle.info, precision)
    if not obstacle:
        try:
            return _open_openvino(bundle, precision, f"OpenVINO is the fastest for this network. {why}", num_threads)
        except ImportError as error:
            obstacle = f"OpenVINO cannot be loaded here ({error})"
        except BundleError as error:  # the file may be sound, and hold what OpenVINO does not know
            obstacle = f"OpenVINO does not take it ({error})"
    if precision == "bf16":
        if is_asked_for:
            raise ConfigError(f"The precision is 'bf16', which OpenVINO alone computes, but {obstacle}; accepted: auto, fp32.")
        precision, why = "fp32", "Without OpenVINO there is no bf16."
    return _open_onnx_runtime(bundle, precision, f"ONNX Runtime, since {obstacle}. {why}", num_threads)


def _choose_precision(
    bundle: Bundle, precision: Literal["auto"] | Precision, engine: Literal["auto"] | EngineName
) -> tuple[Precision, str]:
    if precision == "auto":
        default = bundle.info.default_precision
        if default == "fp32":
            return "fp32", "The bundle is served in fp32."
        if computes_natively(default):
            return default, f"The bundle is served in {default}."
        return "fp32", f"The bundle's {default} needs a processor with {needed_flags(default)}, which this one lacks."
    if not computes_natively(precision):
        raise ConfigError(
            f"The precision is {precision!r}, which needs a processor with {needed_flags(precision)}; accepted here: auto, fp32."
        )
    stated = bundle.find_precision(precision)
    if precision == "int8" and (stated is None or not stated.kept):
        why = "it was not tried" if stated is None else stated.reason
        takes_bf16 = engine != "onnxruntime" and computes_natively("bf16") and not find_obstacle(bundle.info.signature)
        accepted = "auto, fp32, bf16" if takes_bf16 else "auto, fp32"
        raise ConfigError(f"The precision is 'int8', which {bundle.root} does not hold ({why}); accepted: {accepted}.")
    return precision, f"The precision {precision} was asked for."


def _find_hindrance(info: BundleInfo, precision: Precision) -> str:
    """Why OpenVINO is not tried for the bundle; "" where it is."""
    if obstacle := find_obstacle(info.signature):
        return obstacle
    if precision == "fp32" and info.model.get("macs", 0.0) < SMALL_MACS:
        return "the network is so small that OpenVINO gains nothing and starts later"
    return ""


def _choose_device(device: Literal["auto"] | Device, engine: str, precision: str) -> Device:
    if device == "cpu" or (device == "auto" and (engine == "openvino" or precision != "auto")):
        return "cpu"
    if device == "cuda" and engine == "openvino":
        raise ConfigError("The device is 'cuda', which the engine openvino does not use; accepted: auto, cpu.")
    # Looking for the files first keeps ONNX Runtime, which takes a tenth of a second to import, out of most processes.
    if device == "auto" and not (_has_cuda_build() and Path("/dev/nvidiactl").exists()):
        return "cpu"
    from slipway.engines.onnx_runtime import import_onnxruntime

    if "CUDAExecutionProvider" in import_onnxruntime().get_available_providers():
        return "cuda"
    if device == "cuda":
        raise ConfigError("The device is 'cuda', but ONNX Runtime is installed without CUDA here; accepted: auto, cpu.")
    return "cpu"


def _has_cuda_build() -> bool:
    spec = importlib.util.find_spec("onnxruntime")
    if spec is None or spec.origin is None:
        return False
    return any(Path(spec.origin).with_name("capi").glob("*onnxruntime_providers_cuda*"))


def _open_cuda(bundle: Bundle, precision: Literal["auto"] | Precision, num_threads: int) -> Engine:
    from slipway.engines.onnx_runtime import OnnxRuntimeEngine

    if precision not in ("auto", "fp32"):
        raise ConfigError(f"The precision is {precision!r}, which is not computed on CUDA here; accepted: auto, fp32.")
    reason = "ONNX Runtime, since there is a CUDA device. On it the bundle is served in fp32."
    return OnnxRuntimeEngine(bundle.model_path, bundle.info.signature, num_threads=num_threads, device="cuda", reason=reason)


def _open_openvino(bundle: Bundle, precision: Precision, reason: str, num_threads: int) -> Engine:
    from slipway.engines.openvino import OpenVinoEngine

    path = bundle.file_of(precision)
    return OpenVinoEngine(path, bundle.info.signature, num_threads=num_threads, precision=precision, reason=reason)


def _open_onnx_runtime(bundle: Bundle, precision: Precision, reason: str, num_threads: int) -> Engine:
    from slipway.engines.onnx_runtime import OnnxRuntimeEngine

    path = bundle.file_of(precision)
    return OnnxRuntimeEngine(path, bundle.info.signature, num_threads=num_threads, precision=precision, reason=reason)
