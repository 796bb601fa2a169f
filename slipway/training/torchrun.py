"""torchrun, told apart by its exit status: `python -m slipway.training.torchrun` takes the options that torchrun takes.

torchrun ends with status 1 whether the training itself failed or the node that holds the rendezvous was lost; only the second
is worth another start, by whoever started it.
"""

import sys
import traceback

WORKERS_FAILED = 1
"""The workers failed more often than `--max-restarts` allows."""
RENDEZVOUS_LOST = 75
"""The nodes lost each other, or never met."""


def main(arguments: list[str]) -> int:
    """Run torchrun in this process; its exit status."""
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import parse_args, run

    try:
        run(parse_args(arguments))  # type: ignore[no-untyped-call]
    except ChildFailedError as failure:
        sys.stderr.write(f"{failure}\n")
        return WORKERS_FAILED
    except SignalException as stopped:
        return 128 + int(stopped.sigval)
    except Exception:  # noqa: BLE001 - each backend has errors of its own for a store that is gone; the caller bounds the attempts
        traceback.print_exc()
        return RENDEZVOUS_LOST
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
