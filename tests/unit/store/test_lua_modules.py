"""Lua files as modules: what a file's first comment says is checked, and what is wrong is named."""

import re
from pathlib import Path
from typing import Any

import pytest

from tests.support.lua_names import name_problems
from tracker.store.keys import Keys
from tracker.store.lua_modules import LUA, LuaError, compose, in_order, read, with_constants
from tracker.store.packed_args import FORMS, lua_reader
from tracker.store.script_constants import script_constants

SCRIPTS = sorted(path.stem for path in LUA.glob("*.lua"))
FILES = sorted(LUA.rglob("*.lua"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of Lua files: a script that takes `double` from a module, which takes `plus` from another."""
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "sums.lua").write_text("local function plus(a, b) return a + b end\n")
    (tmp_path / "modules" / "products.lua").write_text(
        "-- FROM sums: plus\nlocal function double(number) return plus(number, number) end\n"
    )
    (tmp_path / "script.lua").write_text("-- ARGV given int\n-- FROM products: double\nreturn double(given)\n")
    return tmp_path


def write(path: Path, *lines: str) -> None:
    path.write_text("".join(f"{line}\n" for line in lines))


def test_a_script_stands_after_its_modules_and_each_of_them_after_those_that_it_takes_from(folder: Path) -> None:
    assert [file.name for file in in_order("script", folder)] == ["sums", "products", "script"]


def test_modules_in_a_circle_are_refused(folder: Path) -> None:
    write(folder / "modules" / "sums.lua", "-- FROM products: double", "local function plus(a, b) return double(a) end")
    with pytest.raises(LuaError, match=r"circle: \w+ takes from \w+ takes from \w+"):
        in_order("script", folder)


def test_a_module_that_is_not_there_is_refused(folder: Path) -> None:
    write(folder / "script.lua", "-- FROM quotients: half", "return half(1)")
    with pytest.raises(LuaError, match=r"no module quotients\.lua"):
        in_order("script", folder)


def test_a_name_that_its_module_does_not_define_is_refused(folder: Path) -> None:
    write(folder / "script.lua", "-- FROM products: double, triple", "return double(triple(1))")
    with pytest.raises(LuaError, match=r"products\.lua does not define triple, which script\.lua takes"):
        in_order("script", folder)


def test_what_a_module_takes_from_another_is_not_its_own_to_give(folder: Path) -> None:
    write(folder / "script.lua", "-- FROM products: plus", "return plus(1, 2)")
    with pytest.raises(LuaError, match=r"products\.lua does not define plus"):
        in_order("script", folder)


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("return plus(1, 2)", "plus"),
        ("local function own() return later end", "later"),
        ("counter = 1", "counter"),
        ("return {double(1), name = other}", "other"),
        ("return 'text' .. suffix", "suffix"),
        ("return double(1).field[place]", "place"),
    ],
)
def test_a_name_that_is_used_and_not_declared_is_found(folder: Path, line: str, name: str) -> None:
    write(folder / "script.lua", "-- FROM products: double", "local one = double(1)", line)
    assert name_problems(read(folder / "script.lua")) == [f"uses, and does not declare: {name}"]


@pytest.mark.parametrize(
    "line",
    [
        "-- a comment may name plus and anything else",
        "local text = 'plus' .. \"it's plus\"",
        "local function own(plus_one, ...) return plus_one, select('#', ...) end",
        "local record = {plus = 1, other = {plus = 2}}",
        "local first, second = {}, {} for at, item in ipairs(first) do second[at] = item.plus end",
        "for index = 1, 2 do redis.call('GET', index) end",
        "local kinds = {made = function(given_to, it) return it end, more = string.rep}",
    ],
)
def test_only_what_is_used_must_be_declared(folder: Path, line: str) -> None:
    write(folder / "script.lua", "-- FROM products: double", line, "return double(1)")
    assert name_problems(read(folder / "script.lua")) == []


def test_a_name_that_is_taken_and_not_used_is_found(folder: Path) -> None:
    write(folder / "script.lua", "-- FROM products: double", "return 1")
    assert name_problems(read(folder / "script.lua")) == ["declares, and does not use: double"]


def test_a_key_or_argument_that_is_not_used_is_found(folder: Path) -> None:
    write(folder / "script.lua", "-- KEYS leases ZSET", "-- ARGV attempts ... keys", "return attempts_start")
    assert name_problems(read(folder / "script.lua")) == ["declares, and does not use: attempts_count, leases"]


def test_a_name_that_is_taken_and_defined_again_is_found(folder: Path) -> None:
    write(
        folder / "script.lua", "-- FROM products: double", "local function own(double) return double end", "return own"
    )
    assert name_problems(read(folder / "script.lua")) == ["declares, and defines by itself: double"]


def test_a_name_that_is_declared_twice_is_found(folder: Path) -> None:
    write(folder / "script.lua", "-- FROM products: double", "-- FROM sums: double", "return double(1)")
    assert name_problems(read(folder / "script.lua")) == ["declares twice: double"]


def test_two_files_of_a_script_do_not_define_the_same_name(folder: Path) -> None:
    write(
        folder / "script.lua", "-- FROM products: double", "local function plus() return double(1) end", "return plus()"
    )
    with pytest.raises(LuaError, match=r"sums\.lua and script\.lua both define plus"):
        in_order("script", folder)


def test_only_scripts_have_arguments(folder: Path) -> None:
    write(folder / "modules" / "sums.lua", "-- ARGV given int", "local function plus(a) return a + given end")
    with pytest.raises(LuaError, match=r"sums\.lua is a module and has arguments"):
        in_order("script", folder)


def test_modules_that_are_needed_later_are_inside_the_function_that_makes_their_functions(folder: Path) -> None:
    write(folder / "modules" / "halves.lua", "-- FROM sums: plus", "local function half(a) return plus(a, 0) / 2 end")
    write(
        folder / "modules" / "quarters.lua",
        "-- FROM halves: half",
        "local function quarter(a) return half(half(a)) end",
    )
    write(
        folder / "script.lua",
        "-- FROM products: double",
        "-- LATER quarters: quarter",
        "return quarter(double(given))",
    )
    lines = compose("script", folder).text.splitlines()
    order = [line.split("(")[0] for line in lines if line.startswith("local function")]
    assert order == [f"local function {name}" for name in ("plus", "double", "quarter", "half", "quarter")]
    begin, end = lines.index("local function quarter(...)"), lines.index("end")
    assert lines[begin + 1 : end][-1] == "return quarter(...)"
    assert "local function half(a) return plus(a, 0) / 2 end" in lines[begin:end]
    assert name_problems(read(folder / "script.lua")) == ["uses, and does not declare: given"]


def test_a_module_that_is_needed_now_and_later_stands_before_both(folder: Path) -> None:
    write(folder / "modules" / "halves.lua", "-- FROM sums: plus", "local function half(a) return plus(a, 0) / 2 end")
    write(folder / "script.lua", "-- FROM sums: plus", "-- LATER halves: half", "return half(plus(1, 2))")
    assert compose("script", folder).text.count("local function plus") == 1
    write(folder / "both.lua", "-- FROM halves: half", "-- LATER halves: half", "return half(2)")
    assert "(...)" not in compose("both", folder).text


def test_a_name_that_a_module_does_not_define_is_refused_also_if_it_is_needed_later(folder: Path) -> None:
    write(folder / "script.lua", "-- LATER sums: minus", "return minus(1, 2)")
    with pytest.raises(LuaError, match=r"sums\.lua does not define minus, which script\.lua takes"):
        in_order("script", folder)


def test_keys_and_arguments_have_their_names_in_the_scripts_text(folder: Path) -> None:
    write(
        folder / "modules" / "sums.lua", "-- KEYS leases ZSET", "local function plus() return call('DEL', leases) end"
    )
    write(
        folder / "script.lua",
        "-- KEYS due ZSET",
        "-- KEYS leases ZSET",
        "-- ARGV limit int",
        "-- ARGV attempts ... key, attempt, ...",
        "-- FROM sums: plus",
        "return {plus(), leases, due, limit, attempts_start, attempts_count}",
    )
    script = compose("script", folder)
    assert list(script.keys) == ["leases", "due"]
    assert [(argument.name, argument.variadic) for argument in script.arguments] == [
        ("limit", False),
        ("attempts", True),
    ]
    assert script.text.splitlines()[:5] == [
        "local call = redis.call",
        "local leases = KEYS[1]",
        "local due = KEYS[2]",
        "local limit = ARGV[1]",
        "local attempts_start, attempts_count = 2, #ARGV - 1",
    ]


def test_a_constant_is_replaced_by_the_text_of_its_value() -> None:
    values: dict[str, Any] = {"name": "op", "count": 7, "off": False, "lanes": {"": ["a", 1]}}
    values["data"] = b'a"\\\n\xff'
    text = with_constants("C.name .. x, C.count, C.off, C.lanes, C.data", values)
    assert text == r'"op" .. x, 7, false, {[""] = {"a", 1}}, "a\034\092\010\255"'
    with pytest.raises(TypeError, match=r"cannot be 1\.5"):
        with_constants("C.half", {"half": 1.5})
    with pytest.raises(KeyError):
        with_constants("C.other", values)


@pytest.mark.parametrize("name", FORMS)
def test_a_packed_argument_is_read_in_the_order_in_which_it_is_written(name: str) -> None:
    reader = lua_reader(name)
    match = re.search(r"local (.*) = string\.match\(text, '\^(.*)\$'\)", reader)
    assert match is not None
    names, pattern = match[1].split(", "), match[2].replace("(%S+)", r"(\S+)")
    written = FORMS[name](**{field: f"<{field}>" for field in names})
    read = re.fullmatch(pattern, written)
    assert read is not None
    assert list(read.groups()) == [f"<{field}>" for field in names]
    assert all(f"{field} = {field}" in reader for field in names)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_file_declares_exactly_the_names_that_it_uses(path: Path) -> None:
    assert name_problems(read(path)) == []


def test_a_shared_header_is_not_taken_for_a_create_nor_a_create_for_one() -> None:
    """`create.lua` tells them apart by the pattern of the shared one alone."""
    shared = FORMS["shared_header"](owner="a", call="b", start_within=0, count=2)
    create = FORMS["create_header"](key="=", id="=", digest="a", context="-", has_options=0, count=2)
    pattern = re.search(r"'(\^.*\$)'", lua_reader("shared_header"))
    assert pattern is not None
    found = [re.search(pattern[1].replace("%S", r"\S"), text) is not None for text in (shared, create)]
    assert found == [True, False]


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_script_is_put_together_from_keys_and_constants_that_there_are(name: str) -> None:
    script = compose(name)
    assert set(script.keys) <= set(vars(Keys()))
    assert "C." not in re.sub(r"--.*", "", with_constants(script.text, script_constants(Keys(), test_clock=True)))


def test_every_constant_is_used() -> None:
    used = {name for path in FILES for name in re.findall(r"\bC\.(\w+)", path.read_text())}
    assert used == set(script_constants(Keys(), test_clock=False))


def test_every_module_is_taken_by_another_file() -> None:
    taken = {module for name in SCRIPTS for file in in_order(name) for module in [*file.takes, *file.later]}
    assert taken == {path.stem for path in (LUA / "modules").glob("*.lua")}


def test_every_transaction_is_committed() -> None:
    """What a run has gathered is written, and its events are published, on each way out of it."""
    begun = {
        path.stem: text for path in FILES if re.search(r"\bbegin\(", text := re.sub(r"--.*", "", path.read_text()))
    }
    del begun["transaction"]
    assert set(begun) == {"create", "claim", "change", "expire", "find_overdue", "repair"}
    for name, text in begun.items():
        assert text.count("begin(") == len(re.findall(r"^ *commit\(tx\)$", text, re.MULTILINE)), name


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_no_lua_file_is_longer_than_200_lines_and_no_line_than_120_columns(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert len(lines) <= 200
    assert [line for line in lines if len(line) > 120] == []
