"""Lua files as modules: what each takes from which, checked, and the text of a script with all that it needs.

Every file under `lua/` is a script, and every file under `lua/modules/` defines functions and tables that others take.
The comment at the top of a file says what it uses, in lines of these forms:

    -- KEYS leases    ZSET    running operation -> when its lease runs out
    -- ARGV limit     int     how many records at most
    -- ARGV attempts  ...     key, attempt, key, attempt, ...
    -- PACKED change_header
    -- FROM clock: digits, iso

`KEYS` names a key, and `ARGV` an argument, which only scripts have. The last argument may be variadic (`...`): its
values are `ARGV[attempts_start]` and the following ones, `attempts_count` in all. `PACKED` names a form of
`packed_args`, which the function `unpack_change_header` reads. `FROM` names what the file takes from a module.

Everywhere, `call` is `redis.call`, and `C.name` stands for the value of a constant (`script_constants`): it is replaced
by the value's text, so that a run of the script does not have to look it up.

A name that is taken and not used, used and not declared, or not defined by its module is an error, and so are modules
that take from each other in a circle. That keeps every file readable by itself.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

from tracker.store.packed_args import lua_reader

LUA = Path(__file__).parent / "lua"

_PARAMETER = re.compile(r"^-- (KEYS|ARGV) (\w+)\s+(\S+)", re.MULTILINE)
_PACKED = re.compile(r"^-- PACKED (\w+)$", re.MULTILINE)
_FROM = re.compile(r"^-- FROM (\w+): ([\w, ]+)$", re.MULTILINE)
_CONSTANT = re.compile(r"\bC\.(\w+)")

_NO_CODE = re.compile(r"""--[^\n]*|'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*"|\.\.\.?""")
"""Comments, strings and dots that do not stand before a field's name."""
_TABLE = re.compile(r"\{([^{}]*)\}")
"""A table that holds no other."""
_FIELD = re.compile(r"(^|,)\s*\w+\s*=(?!=)")
"""The name of a field in a table, which is no use of a variable."""
_NAME = re.compile(r"(?<![.\w])[A-Za-z_]\w*")
_TOP_LEVEL = re.compile(r"^local (?:function )?(\w+(?:, \w+)*)", re.MULTILINE)
_LOCAL = re.compile(r"\blocal (?!function\b)(\w+(?:, \w+)*)|\bfunction (\w+)|\bfor (\w+(?:, \w+)*) (?:in|=)")
_PARAMETERS = re.compile(r"\bfunction\b[^(]*\(([^)]*)\)")
_KEYWORDS = "and break do else elseif end false for function if in local nil not or repeat return then true until while"
_GLOBALS = (
    "cjson ipairs math pairs rawget rawset redis select setmetatable string table tonumber tostring type unpack ARGV"
)
_LANGUAGE = frozenset(f"{_KEYWORDS} {_GLOBALS} call C".split())
"""What every file may use: Lua's keywords, its globals and those of Redis, and what stands before every script."""


class LuaError(Exception):
    """A Lua file whose first comment does not say what the file uses."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """A key or an argument of a script."""

    kind: str
    name: str
    form: str

    @property
    def variadic(self) -> bool:
        """Whether it takes all arguments that are left."""
        return self.form == "..."

    @property
    def names(self) -> list[str]:
        """Its names in Lua."""
        return [f"{self.name}_start", f"{self.name}_count"] if self.variadic else [self.name]


@dataclass(frozen=True, slots=True)
class LuaFile:
    """A file: its text, and what its first comment says. `takes` is module -> names, `defines` its names for others."""

    name: str
    text: str
    parameters: Sequence[Parameter]
    packed: Sequence[str]
    takes: Mapping[str, Sequence[str]]
    defines: frozenset[str]


def read(path: Path) -> LuaFile:
    """Read a file. Raises LuaError when it does not declare exactly the names that it uses."""
    text = path.read_text()
    parameters = [Parameter(*found) for found in _PARAMETER.findall(text)]
    takes = {module: tuple(names.split(", ")) for module, names in _FROM.findall(text)}
    code = _without_fields(_NO_CODE.sub(" ", text))
    file = LuaFile(path.stem, text, parameters, _PACKED.findall(text), takes, frozenset(_listed(_TOP_LEVEL, code)))
    _check_names(file, code)
    return file


def _without_fields(code: str) -> str:
    """The code without the names of fields in tables, the innermost tables first."""
    while (simpler := _TABLE.sub(lambda table: "(" + _FIELD.sub(r"\1 ", table[1]) + ")", code)) != code:
        code = simpler
    return code


def _listed(pattern: re.Pattern[str], code: str) -> Iterator[str]:
    for match in pattern.finditer(code):
        for names in match.groups():
            yield from re.findall(r"\w+", names or "")


def _check_names(file: LuaFile, code: str) -> None:
    declared = [name for parameter in file.parameters for name in parameter.names]
    declared += [f"unpack_{form}" for form in file.packed]
    declared += [name for names in file.takes.values() for name in names]
    own, used = {*_listed(_LOCAL, code), *_listed(_PARAMETERS, code)}, set(_NAME.findall(code))
    for problem, names in {
        "declares, and does not use,": set(declared) - used,
        "declares, and defines by itself,": set(declared) & own,
        "uses, and does not declare,": used - own - set(declared) - _LANGUAGE,
        "declares twice": {name for name in declared if declared.count(name) > 1},
    }.items():
        if names:
            raise LuaError(f"{file.name}.lua {problem} {', '.join(sorted(names))}")


def in_order(script: str, folder: Path = LUA) -> list[LuaFile]:
    """A script, after all modules that it needs, each after those that it takes from.

    Raises LuaError when a module is missing, does not define what others take from it, or is in a circle.
    """
    files = {script: read(folder / f"{script}.lua")}
    missing = set(files[script].takes)
    while missing:
        name = min(missing)
        path = folder / "modules" / f"{name}.lua"
        if not path.exists():
            raise LuaError(f"there is no module {name}.lua")
        files[name] = read(path)
        missing = {module for file in files.values() for module in file.takes} - files.keys()
    try:
        order = [files[name] for name in TopologicalSorter({n: list(f.takes) for n, f in files.items()}).static_order()]
    except CycleError as error:
        raise LuaError(f"modules in a circle: {' takes from '.join(reversed(error.args[1]))}") from None
    _check_modules(order)
    return order


def _check_modules(files: Sequence[LuaFile]) -> None:
    """Check that each name that a file takes is defined by the module, and no two files of a script define the same."""
    by_name, definers = {file.name: file for file in files}, dict[str, str]()
    for file in files:
        for module, names in file.takes.items():
            if unknown := set(names) - by_name[module].defines:
                raise LuaError(
                    f"{module}.lua does not define {', '.join(sorted(unknown))}, which {file.name}.lua takes"
                )
        for name in file.defines:
            if definers.setdefault(name, file.name) != file.name:
                raise LuaError(f"{definers[name]}.lua and {file.name}.lua both define {name}")
    for file in files[:-1]:
        if any(parameter.kind == "ARGV" for parameter in file.parameters):
            raise LuaError(f"{file.name}.lua is a module and has arguments, which only scripts have")


@dataclass(frozen=True, slots=True)
class Composed:
    """A script with its modules: which keys and arguments it takes, in order, and its text before constants are set."""

    keys: Sequence[str]
    arguments: Sequence[Parameter]
    text: str


@cache
def compose(script: str, folder: Path = LUA) -> Composed:
    """Put a script together. Raises LuaError as `in_order`."""
    files = in_order(script, folder)
    parameters = [parameter for file in files for parameter in file.parameters]
    keys = list(dict.fromkeys(parameter.name for parameter in parameters if parameter.kind == "KEYS"))
    arguments = [parameter for parameter in parameters if parameter.kind == "ARGV"]
    forms = dict.fromkeys(form for file in files for form in file.packed)
    lines = ["local call = redis.call", *_bound(keys, arguments), *(lua_reader(form) for form in forms)]
    return Composed(keys, arguments, "\n".join([*lines, *(file.text for file in files)]))


def _bound(keys: Iterable[str], arguments: Iterable[Parameter]) -> Iterator[str]:
    """The lines that give keys and arguments their names."""
    for index, name in enumerate(keys, 1):
        yield f"local {name} = KEYS[{index}]"
    for index, parameter in enumerate(arguments, 1):
        if parameter.variadic:
            yield f"local {', '.join(parameter.names)} = {index}, #ARGV - {index - 1}"
        else:
            yield f"local {parameter.name} = ARGV[{index}]"


def with_constants(text: str, constants: Mapping[str, Any]) -> str:
    """The text of a script with the constants' values in it. Raises KeyError for a constant that is none."""
    return _CONSTANT.sub(lambda match: _literal(constants[match[1]]), text)


def _literal(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"[{_literal(name)}] = {_literal(item)}" for name, item in value.items()) + "}"
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return "{" + ", ".join(_literal(item) for item in value) + "}"
    data = value.encode() if isinstance(value, str) else value
    return '"' + "".join(f"\\{byte:03d}" for byte in data) + '"'
