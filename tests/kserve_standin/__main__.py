"""`python -m tests.kserve_standin`: the stand-in as a process, against the cluster of KUBECONFIG."""

import argparse
import os
import signal
import socket
import sys
import time
from pathlib import Path

from slipway.cluster.client import open_cluster
from slipway.cluster.lease import hold_lease
from slipway.log import configure_logging
from slipway.settings import load_settings
from tests.kserve_standin import LEASE_NAMESPACE, lease_name
from tests.kserve_standin.controller import Controller

_FOREVER_SECONDS = 10.0 * 365 * 86400
_INTERVAL_SECONDS = 0.25


def main() -> None:
    """Reconcile until told to end; another instance for the same namespaces waits until this one has ended."""
    parser = argparse.ArgumentParser(prog="python -m tests.kserve_standin", description="Stand in for KServe's controller.")
    parser.add_argument("--initializer-image", required=True, help="an image with Slipway's storage module")
    parser.add_argument("--namespace-selector", default="", help="labels of the namespaces to look after; all by default")
    parser.add_argument("--started-file", type=Path, help="written once it is at work, or another instance is")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    settings = load_settings()
    configure_logging(settings.log_format)
    cluster = open_cluster(settings)
    if given.started_file is not None:
        given.started_file.touch()
    holder = f"{socket.gethostname()}-{os.getpid()}"
    name = lease_name(given.namespace_selector)
    with hold_lease(cluster, LEASE_NAMESPACE, name, holder=holder, timeout_seconds=_FOREVER_SECONDS) as lease:
        controller = Controller(cluster, initializer_image=given.initializer_image, namespace_selector=given.namespace_selector)
        while True:
            lease.check()
            controller.reconcile()
            time.sleep(_INTERVAL_SECONDS)


if __name__ == "__main__":
    main()
