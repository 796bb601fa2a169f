"""The container images of the tasks, each named in this one place."""

from dataclasses import dataclass
from typing import Literal

REGISTRY = "ghcr.io/slipway"
VERSION = "0.1.0"

ImageKind = Literal["pipeline", "trainer"]


@dataclass(frozen=True, kw_only=True)
class Images:
    """Full names, with their tags. KFP's local runner wants `python` in each."""

    pipeline: str
    """Everything but training: no torch."""
    trainer: str
    """Training and export, on CPU and GPU."""

    def name(self, kind: ImageKind) -> str:
        """The image of a kind."""
        return self.pipeline if kind == "pipeline" else self.trainer


def choose_images(registry: str = "", tag: str = "") -> Images:
    """The images of a registry and a build, which is a release, or the git commit of `make images`; "" is the released ones'."""
    registry, tag = registry or REGISTRY, tag or VERSION
    return Images(pipeline=f"{registry}/slipway-pipeline-python:{tag}", trainer=f"{registry}/slipway-trainer-python:{tag}")
