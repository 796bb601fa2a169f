"""Finding objects among manifests."""

from tests.contract.tools import Manifest


def named(manifests: tuple[Manifest, ...], kind: str, name: str) -> Manifest:
    """The one object of this kind and name."""
    (found,) = [one for one in manifests if one["kind"] == kind and one["metadata"]["name"] == name]
    return found


def kinds(manifests: tuple[Manifest, ...]) -> set[tuple[str, str]]:
    """Kind and name of each object."""
    return {(one["kind"], one["metadata"]["name"]) for one in manifests}
