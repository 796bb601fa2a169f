"""What one check found."""

from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "warn", "fail", "skip"]


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing that was looked at."""

    name: str
    status: Status
    """`warn` works and may not for long; `skip` was not looked at, and `detail` says why."""
    detail: str
    remedy: str = ""
    """A command or a setting; "" where nothing is wrong."""


def ok(name: str, detail: str) -> Check:
    """It works."""
    return Check(name=name, status="ok", detail=detail)


def warn(name: str, detail: str, remedy: str) -> Check:
    """It works, or part of it."""
    return Check(name=name, status="warn", detail=detail, remedy=remedy)


def fail(name: str, detail: str, remedy: str) -> Check:
    """It does not work."""
    return Check(name=name, status="fail", detail=detail, remedy=remedy)


def skip(name: str, detail: str, remedy: str = "") -> Check:
    """It is not there to be looked at."""
    return Check(name=name, status="skip", detail=detail, remedy=remedy)
