"""`python -m slipway.serving`: the predictor."""

import argparse
import sys
from pathlib import Path

from slipway.errors import SlipwayError
from slipway.log import configure_logging
from slipway.serving.server import ServerOptions, run_server
from slipway.settings import load_settings


def main() -> int:
    """Serve until told to end; 1 when there is nothing that can be served."""
    try:
        settings = load_settings()
        configure_logging(settings.log_format)
        run_server(_parse_arguments(settings.model_version))
    except SlipwayError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


def _parse_arguments(version: str) -> ServerOptions:
    parser = argparse.ArgumentParser(
        prog="python -m slipway.serving", description="Serve one model over HTTP (Open Inference Protocol)."
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--bundle", type=Path, help="folder of the bundle to serve")
    what.add_argument("--pointer", type=Path, help="current.json of a deployed model, followed as it changes")
    parser.add_argument("--name", default="", help="model name in the URL; needed with --bundle")
    parser.add_argument(
        "--version", default=version or "1", help="model version in the answers, with --bundle; else SLIPWAY_MODEL_VERSION"
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8080, help="0 takes a free port")
    parser.add_argument("--port-file", type=Path, help="where to write host and port as JSON once requests are answered")
    parser.add_argument("--threads", type=int, default=1, help="threads that one prediction may use")
    parser.add_argument(
        "--drain-seconds", type=float, default=0.0, help="how long to go on answering after SIGTERM, no longer ready"
    )
    parser.add_argument("--until-stdin-closes", action="store_true", help="end with the process that holds the other end")
    given = parser.parse_args()
    if given.bundle is not None and not given.name:
        parser.error("--bundle needs --name")
    return ServerOptions(
        bundle_dir=given.bundle,
        model_name=given.name,
        version=given.version,
        pointer=given.pointer,
        host=given.host,
        port=given.port,
        port_file=given.port_file,
        num_threads=given.threads,
        drain_seconds=given.drain_seconds,
        until_stdin_closes=given.until_stdin_closes,
    )


if __name__ == "__main__":
    sys.exit(main())
