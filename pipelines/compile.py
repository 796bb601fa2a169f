"""Write the pipelines' IR YAML: `python pipelines/compile.py [--preset FILE] [--output DIR] [section.key=value ...]`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from kfp import compiler

from pipelines.training import training_pipeline
from slipway.config import Config
from slipway.errors import ConfigError
from slipway.overrides import load_config
from slipway.storage.files import hash_file, write_bytes

COMPILED_DIR = Path(__file__).parent / "compiled"


def compile_training(config: Config, output: Path) -> str:
    """Compile the training pipeline to `output`; returns the SHA-256 of the file.

    The same configuration gives the same bytes.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    draft = output.with_name(f".{output.name}.draft.yaml")
    try:
        compiler.Compiler().compile(training_pipeline(config), str(draft))
        write_bytes(output, draft.read_bytes())
    finally:
        draft.unlink(missing_ok=True)
    return hash_file(output)


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments that say which configuration is meant."""
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="settings to change")
    parser.add_argument("--preset", type=Path, help="a YAML file with settings that differ")


def main(arguments: Sequence[str] | None = None) -> int:
    """Compile every pipeline; exit status 0, or 2 on a setting that is not accepted."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_config_arguments(parser)
    parser.add_argument("--output", type=Path, default=COMPILED_DIR, help="folder to write to (default: %(default)s)")
    options = parser.parse_args(arguments)
    try:
        config = load_config(options.preset, options.overrides)
    except ConfigError as error:
        print(f"compile: {error}", file=sys.stderr)  # noqa: T201 - this module is a command
        return 2
    target = options.output / "training.yaml"
    digest = compile_training(config, target)
    print(f"{target}  sha256:{digest[:16]}")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
