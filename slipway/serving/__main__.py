"""`python -m slipway.serving`: the predictor."""

import sys
from contextlib import closing

from slipway.errors import ConfigError, SlipwayError
from slipway.log import configure_logging
from slipway.serving.process.ending import end_cleanly_on_signals, leave_now
from slipway.serving.process.options import load_options
from slipway.settings import configure_numpy, load_settings

_START_SWITCH_SECONDS = 0.0005
"""Until all is imported: the thread that hashes needs the interpreter for microseconds, and waits so long for it each time."""


def main() -> int:
    """Serve until told to end. 1 when there is nothing that can be served, 2 when an option is not accepted."""
    end_cleanly_on_signals()
    try:
        settings = load_settings()
        options = load_options(sys.argv[1:], settings)
        configure_numpy()
        from slipway.serving.process.loading import Loader, Loading

        seconds = sys.getswitchinterval()
        sys.setswitchinterval(_START_SWITCH_SECONDS)
        with closing(Loader(options, settings)) as loader:
            loading = Loading(loader)
            loading.wait_for_imports()  # the rest goes on while the server is imported
            sys.setswitchinterval(seconds)
            configure_logging(settings.log_format)
            from slipway.serving.process.server import run_server

            run_server(options, settings, loading=loading)
    except ConfigError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    except (SlipwayError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    try:
        status = main()
    except SystemExit as end:  # --help, a wrong argument, a signal
        status = end.code if isinstance(end.code, int) else 0
    leave_now(status)
