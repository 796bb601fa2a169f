"""Files that are read again when they change: what is logged where they are wrong for a while."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
import structlog.testing

from slipway.serving.process.access import Tokens
from slipway.serving.process.options import AccessOptions
from slipway.serving.process.tls import ServerTls
from tests.servers.certificates import Authority

FIRST, SECOND = "a-token-of-the-shop", "a-token-of-the-farm"
WAIT_SECONDS = 20


def test_wrong_tokens_are_logged_once_until_something_else_is_wrong_and_once_more_when_they_are_well(tmp_path):
    token_file, away = tmp_path / "tokens", tmp_path / "away"
    token_file.write_text(FIRST)
    now = 0.0
    tokens = Tokens(AccessOptions(token_file=token_file), clock=lambda: now)

    def look(num_times: int = 3) -> list[str]:
        nonlocal now
        with structlog.testing.capture_logs() as events:
            for _ in range(num_times):
                now += 10
                assert tokens.find_refusal(f"Bearer {FIRST}") is None
        return [event["event"] for event in events]

    assert look() == []
    token_file.rename(away)
    assert look() == ["tokens_not_read"]
    token_file.write_text("short")
    assert look() == ["tokens_not_read"]
    token_file.unlink()
    assert look() == ["tokens_not_read"]
    away.rename(token_file)  # the very file from before
    assert look() == ["tokens_read"]
    token_file.rename(away)
    assert look() == ["tokens_not_read"]
    token_file.write_text(f"{FIRST}\n{SECOND}")
    assert look() == ["tokens_read"]
    assert tokens.find_refusal(f"Bearer {SECOND}") is None


def write_certificate(folder: Path) -> None:
    issued = Authority().issue("127.0.0.1")
    (folder / "server.pem").write_bytes(issued.certificate)
    (folder / "server.key").write_bytes(issued.private_key)


@pytest.mark.parametrize("spoil", [Path.unlink, lambda path: path.write_text("none")], ids=["gone", "wrong"])
def test_a_wrong_certificate_is_logged_once_and_once_more_when_it_is_well(tmp_path, spoil: Callable[[Path], object]):
    write_certificate(tmp_path)
    tls = ServerTls(AccessOptions(tls_certificate=tmp_path / "server.pem", tls_key=tmp_path / "server.key"), look_seconds=0.01)

    async def follow() -> list[str]:
        with structlog.testing.capture_logs() as events:
            following = asyncio.create_task(tls.follow_files())
            async with asyncio.timeout(WAIT_SECONDS):
                spoil(tmp_path / "server.key")
                while not events:
                    await asyncio.sleep(0.01)
                await asyncio.sleep(0.2)
                write_certificate(tmp_path)
                while events[-1]["event"] != "certificate_read":
                    await asyncio.sleep(0.01)
            following.cancel()
        return [event["event"] for event in events]

    assert asyncio.run(follow()) == ["certificate_not_read", "certificate_read"]
