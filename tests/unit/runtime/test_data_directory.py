"""The data directory of `tracker dev`: its lock, and the room for its files."""

import os
import tempfile
from errno import EDQUOT, ENOSPC, EROFS
from pathlib import Path
from typing import Any, NoReturn

import pytest

from tracker.cli import dev_stack
from tracker.cli.orphans import ChildRecords
from tracker.config import Settings
from tracker.errors import ConfigurationError
from tracker.runtime.dev_valkey import check_room, locked


def _full(number: int) -> Any:
    def fail(*_: object, **__: object) -> NoReturn:
        raise OSError(number, os.strerror(number))

    return fail


@pytest.mark.parametrize("number", [ENOSPC, EDQUOT, EROFS])
def test_a_directory_that_cannot_be_written_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(tempfile, "TemporaryFile", _full(number))
    with pytest.raises(ConfigurationError) as refused, locked(tmp_path):
        pytest.fail("nothing is started")
    assert refused.value.message == (
        f"{tmp_path} cannot be written: {os.strerror(number)}; make room, or take another --data-dir"
    )


def test_a_check_for_room_leaves_nothing(tmp_path: Path) -> None:
    check_room(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_valkey_that_starts_again_on_a_full_disk_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = dev_stack.StackPlan(
        settings=Settings(),
        data_dir=tmp_path,
        host="127.0.0.1",
        port=0,
        redis_port=None,
        redis_url=None,
        workers=0,
        types=None,
        token="",
    )
    record = dev_stack._recorder(ChildRecords(tmp_path), plan)
    record("valkey", os.getpid())
    monkeypatch.setattr(tempfile, "TemporaryFile", _full(ENOSPC))
    record("api", os.getpid())
    record("api", os.getpid())
    assert capsys.readouterr().err == ""
    record("valkey", os.getpid())
    assert "cannot be written: No space left on device" in capsys.readouterr().err
    assert "valkey" in (tmp_path / "children.json").read_text()
