from pathlib import Path

import pytest

from slipway.doctor.versions import check_packages, check_python, read_distributions


def install(folder: Path, name: str, version: str, *requires: str, extras: tuple[str, ...] = ()) -> None:
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir()
    lines = [f"Provides-Extra: {extra}" for extra in extras] + [f"Requires-Dist: {one}" for one in requires]
    (info / "METADATA").write_text("\n".join(["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}", *lines, ""]))


@pytest.fixture
def site(tmp_path: Path) -> Path:
    requires = ("numpy>=2", "kfp[kubernetes]==2.17.0; extra == 'pipelines'", "winloop; sys_platform == 'win32'")
    install(tmp_path, "slipway", "0.1.0", *requires, extras=("pipelines",))
    install(tmp_path, "numpy", "2.4.6")
    install(tmp_path, "urllib3", "2.7.0")
    return tmp_path


def check(site: Path) -> dict[str, tuple[str, str]]:
    return {check.name: (check.status, check.detail) for check in check_packages(read_distributions([str(site)]))}


def test_packages_that_agree_pass_and_markers_of_other_systems_are_passed_over(site):
    install(site, "kfp", "2.17.0", "urllib3==2.7.0", extras=("kubernetes",))
    found = check(site)
    assert found["packages"][0] == "ok"
    assert found["extras"] == ("ok", "pipelines")


def test_a_version_that_another_package_refuses_is_named_with_both_sides(site):
    install(site, "kfp", "2.17.0", "urllib3==2.6.0", "requests>=2", extras=("kubernetes",))
    status, detail = check(site)["packages"]
    assert status == "fail"
    assert "kfp needs urllib3==2.6.0, and 2.7.0 is installed" in detail
    assert "kfp needs requests, which is not installed" in detail


def test_what_only_an_extra_of_a_requirement_asks_for_is_looked_at_too(site):
    install(site, "kfp", "2.17.0", "kfp-kubernetes==2.17.0; extra == 'kubernetes'", extras=("kubernetes",))
    assert check(site)["packages"] == ("fail", "kfp needs kfp-kubernetes, which is not installed")


def test_an_extra_that_is_not_installed_is_a_warning_and_no_failure(site):
    found = check(site)
    assert found["packages"][0] == "ok"
    assert found["extras"] == ("warn", "pipelines lacks kfp")


def test_a_pin_that_was_left_is_a_failure(site):
    install(site, "kfp", "2.16.1", extras=("kubernetes",))
    assert check(site)["packages"] == ("fail", "slipway needs kfp==2.17.0, and 2.16.1 is installed")


def test_an_interpreter_that_is_too_old_fails_with_a_command_that_mends_it():
    assert check_python().status == "ok"
    old = check_python("3.10.4")
    assert (old.status, "make setup" in old.remedy) == ("fail", True)
