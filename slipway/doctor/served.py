"""The models that serve on this machine."""

from pathlib import Path

from slipway.doctor.check import Check, fail, ok, skip
from slipway.errors import SlipwayError
from slipway.serving.record import POINTER_NAME, read_pointer
from slipway.settings import Settings


def check_champions(settings: Settings) -> list[Check]:
    """One check for each model that was deployed here: its pointer can be read and its bundle is whole."""
    pointers = sorted(settings.serving_dir.glob(f"*/{POINTER_NAME}"))
    if not pointers:
        return [skip("champion", "no model serves here yet", "slipway run")]
    return [_check_champion(pointer.parent.name, settings) for pointer in pointers]


def _check_champion(model: str, settings: Settings) -> Check:
    from slipway.export.bundle import read_bundle

    try:
        record = read_pointer(settings.serving_dir / model / POINTER_NAME)
        read_bundle(Path(record.bundle_uri))
    except SlipwayError as error:
        return fail("champion", f"{model}: {error}", f"slipway rollback --model {model}, or slipway run")
    except OSError as error:
        return fail("champion", f"{model}: {error}", f"slipway rollback --model {model}, or slipway run")
    return ok("champion", f"{model} version {record.version}, since {record.promoted_at}")
