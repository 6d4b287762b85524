"""What runs the pages' commands notices a page that is wrong."""

from pathlib import Path

import pytest

from tests.docs.pages import blocks
from tests.docs.terminal import Terminals, first_difference, squeezed, subsequence
from tests.docs.test_commands import act


def play(directory: Path, text: str) -> None:
    page = directory / "page.md"
    page.write_text(text)
    found = list(blocks(page))
    (directory / "home").mkdir()
    with Terminals(directory / "home") as terminals:
        for block, after in zip(found, [*found[1:], None], strict=True):
            act(terminals, block, after.text if after is not None and after.language == "text" else None)


def test_variables_and_the_directory_stay_from_block_to_block(tmp_path: Path) -> None:
    play(
        tmp_path,
        """
```python
# inner/greet.py
print("hello")
```

```sh
WHO="you and me"
cd inner
```

```sh
python greet.py && echo "$WHO"
```

```text
hello
you and me
```
""",
    )


@pytest.mark.parametrize(
    ("page", "message"),
    [
        ("```sh\nfalse\ntrue\n```", "exit code 1 instead of 0"),
        ("<!-- test: exits 3 -->\n\n```sh\ntrue\n```", "exit code 0 instead of 3"),
        ("```sh\necho one; echo two\n```\n\n```text\none\n```", "the end: more is printed"),
        ("```sh\necho one\n```\n\n```text\none\ntwo\n```", "prints something else at: two"),
        ("<!-- test: keeps running -->\n\n```sh\ntrue\n```\n\n```text\nready\n```", "it ended"),
        ("<!-- test: keeps running -->\n\n```sh\nsleep 60\n```", "needs a text block"),
        ("<!-- test: perhaps -->\n\n```sh\ntrue\n```", "an unknown comment: perhaps"),
        ("<!-- test: exits 1 -->\n", "a comment has no block"),
        ("  ```sh\n  true\n  ```", "a fence must begin its line"),
        ("```sh\ntrue\n", "a block has no end"),
        ("<!-- test: stop -->\n", "nothing runs"),
    ],
)
def test_a_page_that_is_wrong_fails(tmp_path: Path, page: str, message: str) -> None:
    with pytest.raises(AssertionError) as failure:
        play(tmp_path, page)
    assert message in str(failure.value)


def test_a_block_that_keeps_running_is_stopped_by_ctrl_c(tmp_path: Path) -> None:
    play(
        tmp_path,
        """
<!-- test: keeps running -->

```sh
trap 'echo stopped > told; exit' INT
echo ready
while true; do sleep 0.05; done
```

```text
ready
```

<!-- test: stop -->

```sh
cat told
```

```text
stopped
```
""",
    )


@pytest.mark.parametrize(
    ("expected", "printed"),
    [
        ("a …", "a long line"),
        ("…\nlast", "first\nsecond\nlast"),
        ("…\nlast", "last"),
        ("id  name", "id     name   "),
        ("1 … retry … end", "1   host   retry   end"),
        ("a\n…", "a"),
    ],
)
def test_the_ellipsis_stands_for_what_is_left_out(expected: str, printed: str) -> None:
    assert first_difference(expected, printed) == ""


def test_lines_of_a_block_that_keeps_running_may_have_others_between() -> None:
    pattern = subsequence("token … \n…\nready http://127.0.0.1:1")
    assert pattern.search(squeezed("log\ntoken  abc\nlog\nlog\nready http://127.0.0.1:1"))
    assert not pattern.search(squeezed("ready http://127.0.0.1:1\ntoken abc"))
