"""The state of a process that is given back between plain functions."""

import os
from pathlib import Path

import pytest

from workers.handler_call import exit_forked_child
from workers.process_state import ProcessState


def test_a_working_directory_that_cannot_be_opened_is_left_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refuse(*_: object, **__: object) -> int:
        raise PermissionError

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", refuse)
        state = ProcessState()
    monkeypatch.chdir(tmp_path)
    state.restore(1.0)
    assert Path.cwd() == tmp_path


@pytest.mark.parametrize(
    ("raised", "code"),
    [(None, 0), (SystemExit(), 0), (SystemExit(3), 3), (SystemExit(2**70), 0), (ValueError(), 1)],
)
def test_a_forked_child_ends_with_the_code_that_its_exception_means(raised: BaseException | None, code: int) -> None:
    host = os.getpid()
    child = os.fork()
    if child == 0:
        try:
            if raised is not None:
                raise raised
        finally:
            exit_forked_child(host)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == code
