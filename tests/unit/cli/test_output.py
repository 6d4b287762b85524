"""Tables of the command line."""

import pytest

from tracker.cli.output import print_table


def test_a_table_does_not_obey_what_other_clients_wrote(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("clientContext",), [["\x1b]0;title\x07red\x9b31m\rover"]])
    shown = capsys.readouterr().out
    assert "\\x1b]0;title\\x07red\\x9b31m\\x0dover" in shown
    assert not set(shown) & {"\x1b", "\x07", "\x9b", "\r"}
