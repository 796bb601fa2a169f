"""Write the pipelines' IR YAML: `python pipelines/compile.py [--preset FILE] [--output DIR] [section.key=value ...]`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from kfp import compiler, dsl

from pipelines.batch_prediction import batch_prediction_pipeline
from pipelines.images import REGISTRY, VERSION, Images, choose_images
from pipelines.ir import seal_ir
from pipelines.training import training_pipeline
from slipway.config import Config
from slipway.errors import ConfigError
from slipway.overrides import load_config
from slipway.storage.files import write_bytes

COMPILED_DIR = Path(__file__).parent / "compiled"


def compile_training(config: Config, output: Path, images: Images | None = None) -> str:
    """Compile the training pipeline to `output`, with the released images by default.

    The same configuration gives the same bytes.

    Returns:
        The hash that the file's tasks know it by.
    """
    return _compile(training_pipeline(config, images or choose_images()), output)


def compile_batch_prediction(output: Path, images: Images | None = None) -> str:
    """Compile the batch prediction's pipeline to `output`; see `compile_training`."""
    return _compile(batch_prediction_pipeline(images or choose_images()), output)


def _compile(pipeline: dsl.base_component.BaseComponent, output: Path) -> str:
    output.parent.mkdir(parents=True, exist_ok=True)
    draft = output.with_name(f".{output.name}.draft.yaml")
    try:
        compiler.Compiler().compile(pipeline, str(draft))
        content, digest = seal_ir(draft.read_bytes())
        write_bytes(output, content)
    finally:
        draft.unlink(missing_ok=True)
    return digest


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments that say which configuration is meant."""
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="settings to change")
    parser.add_argument("--preset", type=Path, help="a YAML file with settings that differ")


def add_image_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments that say which images the tasks run."""
    parser.add_argument("--registry", default=REGISTRY, help="registry and folder of the images (default: %(default)s)")
    parser.add_argument(
        "--image-tag", default=VERSION, help="which build of them: a release or a git commit (default: %(default)s)"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Compile every pipeline; exit status 0, or 2 on a setting that is not accepted."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_config_arguments(parser)
    add_image_arguments(parser)
    parser.add_argument("--output", type=Path, default=COMPILED_DIR, help="folder to write to (default: %(default)s)")
    options = parser.parse_args(arguments)
    try:
        config = load_config(options.preset, options.overrides)
        images = choose_images(options.registry, options.image_tag)
        digests = {
            "training.yaml": compile_training(config, options.output / "training.yaml", images),
            "batch-prediction.yaml": compile_batch_prediction(options.output / "batch-prediction.yaml", images),
        }
    except ConfigError as error:
        print(f"compile: {error}", file=sys.stderr)  # noqa: T201 - this module is a command
        return 2
    for name, digest in digests.items():
        print(f"{options.output / name}  sha256:{digest[:16]}")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
