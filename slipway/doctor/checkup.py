"""All checks, side by side and within one bound."""

import threading
import time
from collections.abc import Callable

from slipway.deploy.targets import TargetName, resolve_target
from slipway.doctor import machine, served, services, versions
from slipway.doctor.check import Check, fail, skip
from slipway.settings import Settings

DEADLINE_SECONDS = 9.0
_CHECKS: dict[str, Callable[[Settings], list[Check]]] = {
    "python": lambda _: [versions.check_python()],
    "packages": lambda _: versions.check_packages(versions.read_distributions()),
    "disk": lambda settings: [machine.check_disk(settings)],
    "home": lambda settings: [machine.check_home(settings)],
    "gpu": lambda _: [machine.check_gpu()],
    "s3": lambda settings: [services.check_s3(settings)],
    "mlflow": lambda settings: [services.check_mlflow(settings)],
    "kfp": lambda settings: [services.check_kfp(settings)],
    "champion": served.check_champions,
}


def run_checks(settings: Settings, *, target: TargetName = "auto", deadline_seconds: float = DEADLINE_SECONDS) -> list[Check]:
    """Look at everything at once; what has not answered within `deadline_seconds` has failed.

    The cluster is looked at where `target` says that models serve there.
    """
    checks = {**_CHECKS, "cluster": _look_at_cluster if resolve_target(settings, target) == "kserve" else _pass_over_cluster}
    deadline = time.monotonic() + deadline_seconds
    found: dict[str, list[Check]] = {}
    # Daemons, since looking up a name cannot be interrupted and must not keep the command from ending.
    threads = {
        name: threading.Thread(target=_look, args=(name, check, settings, found), daemon=True) for name, check in checks.items()
    }
    for thread in threads.values():
        thread.start()
    for thread in threads.values():
        thread.join(max(0.0, deadline - time.monotonic()))
    unanswered = "Run `slipway doctor` again; if it stays, check the name server and the network."
    return [
        check
        for name in checks
        for check in found.get(name, [fail(name, f"no answer within {deadline_seconds:g} s", unanswered)])
    ]


def _look_at_cluster(settings: Settings) -> list[Check]:
    from slipway.doctor.cluster import check_cluster

    return check_cluster(settings)


def _pass_over_cluster(_settings: Settings) -> list[Check]:
    return [skip("cluster", "not looked at: models serve on this machine", "slipway doctor --target kserve")]


def _look(name: str, check: Callable[[Settings], list[Check]], settings: Settings, found: dict[str, list[Check]]) -> None:
    try:
        found[name] = check(settings)
    except Exception as error:  # noqa: BLE001 - a check that breaks is a finding, and hides no other
        found[name] = [fail(name, f"the check itself failed: {error!r}", "Report it with the output of `slipway doctor --json`.")]
