"""Lua files as modules: which names a file takes from which module, and the text of a script with its modules.

Every file under `lua/` is a script, and every file under `lua/modules/` defines functions and tables that others take.
The comment at the top of a file says what it uses, in lines of these forms:

    -- KEYS leases    ZSET    running operation -> when its lease runs out
    -- ARGV limit     int     how many records at most
    -- ARGV attempts  ...     key, attempt, key, attempt, ...
    -- PACKED change_header
    -- FROM clock: digits, iso
    -- LATER turn_claims: turn_claims
    -- FLAGS allow-oom

`KEYS` names a key, and `ARGV` an argument, which only scripts have. The last argument may be variadic (`...`): its
values are `ARGV[attempts_start]` and the following ones, `attempts_count` in all. `PACKED` names a form of
`packed_args`, which the function `unpack_change_header` reads. `FROM` names what the file takes from a module. `LATER`
names one function of a module whose functions are made when that function is called, because few runs of the script
call it. Plain code is `FROM`. Then each run makes all functions, and that is a third of a short run: 31 functions made
a claim of one operation a tenth longer (`make bench-instructions`: claim, 1 at once). `FLAGS` are the flags of a script
(Redis 7.0, "Eval script flags"): with `allow-oom` it may write at the server's `maxmemory`.

Everywhere, `call` is `redis.call`, and `C.name` stands for the value of a constant (`script_constants`): it is replaced
by the value's text. Plain code would be a table of constants, which every run would make and look up values in. (`make
bench-instructions`: create and change, 1 at once, -4 %.)

The first comment names all that a file uses, so every file can be read by itself. Loading fails for modules that take
from each other in a circle, and for a name that its module does not define. A test fails for a name that is used and
not declared, or declared and not used.
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
_LATER = re.compile(r"^-- LATER (\w+): (\w+)$", re.MULTILINE)
_FLAGS = re.compile(r"^-- FLAGS ([\w, -]+)$", re.MULTILINE)
_CONSTANT = re.compile(r"C\.(\w+)")
_TOP_LEVEL = re.compile(r"^local (?:function )?(\w+(?:, \w+)*)", re.MULTILINE)
_ESCAPED = re.compile(rb"[^ !#-\[\]-~]")
"""Bytes that a Lua text has as numbers, `\\ddd`: bytes that are not printable, quotation marks and backslashes."""


class LuaError(Exception):
    """A Lua file declares names that do not fit together with those of other files."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """A key or an argument of a script."""

    kind: str
    name: str
    form: str

    @property
    def variadic(self) -> bool:
        """Whether the parameter takes all arguments that are left."""
        return self.form == "..."

    @property
    def names(self) -> list[str]:
        """The parameter's names in Lua."""
        return [f"{self.name}_start", f"{self.name}_count"] if self.variadic else [self.name]


@dataclass(frozen=True, slots=True)
class LuaFile:
    """A file: its text, and what its first comment says.

    `takes` is module -> names, `later` is module -> the function that makes the module's functions when it is called.
    `defines` has the names of the file for others.
    """

    name: str
    text: str
    parameters: Sequence[Parameter]
    packed: Sequence[str]
    takes: Mapping[str, Sequence[str]]
    later: Mapping[str, str]
    defines: frozenset[str]


@cache
def read(path: Path) -> LuaFile:
    """The file at a path."""
    text = path.read_text()
    parameters = [Parameter(*found) for found in _PARAMETER.findall(text)]
    takes = {module: names.split(", ") for module, names in _FROM.findall(text)}
    defines = frozenset(name for names in _TOP_LEVEL.findall(text) for name in names.split(", "))
    return LuaFile(path.stem, text, parameters, _PACKED.findall(text), takes, dict(_LATER.findall(text)), defines)


def in_order(script: str, folder: Path = LUA) -> list[LuaFile]:
    """All modules that a script needs, and the script. Each file comes after the modules that it takes names from.

    Raises LuaError when a module is missing, does not define what others take from it, or is in a circle.
    """
    files = {script: read(folder / f"{script}.lua")}
    missing = _needs(files[script])
    while missing:
        name = min(missing)
        path = folder / "modules" / f"{name}.lua"
        if not path.exists():
            raise LuaError(f"there is no module {name}.lua")
        files[name] = read(path)
        missing = {module for file in files.values() for module in _needs(file)} - files.keys()
    try:
        order = [files[name] for name in TopologicalSorter({n: _needs(f) for n, f in files.items()}).static_order()]
    except CycleError as error:
        raise LuaError(f"modules in a circle: {' takes from '.join(reversed(error.args[1]))}") from None
    _check_modules(order)
    return order


def _needs(file: LuaFile) -> set[str]:
    """The modules that a file takes from, now or later."""
    return {*file.takes, *file.later}


def _check_modules(files: Sequence[LuaFile]) -> None:
    """Check that modules define the names that files take from them, and that no two files define the same name."""
    by_name, definers = {file.name: file for file in files}, dict[str, str]()
    for file in files:
        for module, names in [*file.takes.items(), *((module, [name]) for module, name in file.later.items())]:
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
    """A script with its modules: its keys and arguments in order, and its text, in which constants are not replaced."""

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
    shebang = [f"#!lua flags={flags}" for flags in _FLAGS.findall(files[-1].text)]
    lines = [*shebang, "local call = redis.call", *_bound(keys, arguments), *(lua_reader(form) for form in forms)]
    return Composed(keys, arguments, "\n".join([*lines, *_texts(script, files)]))


def _texts(script: str, files: Sequence[LuaFile]) -> Iterator[str]:
    """The texts of the files in order. Modules that are only needed later are inside the function that makes them."""
    by_name = {file.name: file for file in files}
    now = _reached(script, by_name)
    later = {module: name for file in files for module, name in file.later.items()}
    for file in files:
        if file.name in now:
            yield file.text
        elif name := later.get(file.name):
            inside = _reached(file.name, by_name) - now
            texts = [each.text for each in files if each.name in inside]
            yield "\n".join([f"local function {name}(...)", *texts, f"return {name}(...)", "end"])


def _reached(name: str, files: Mapping[str, LuaFile]) -> set[str]:
    """A file, and the modules that it takes from, directly or by others."""
    return {name}.union(*(_reached(module, files) for module in files[name].takes))


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
    """The text of a script with the constants' values in it. Raises KeyError for an unknown constant."""
    parts = _CONSTANT.split(text)  # every second part is the name of a constant
    values = {name: _literal(constants[name]) for name in {*parts[1::2]}}
    parts[1::2] = [values[name] for name in parts[1::2]]
    return "".join(parts)


def _literal(value: Any) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case str() | bytes():
            data = value.encode() if isinstance(value, str) else value
            return '"' + _ESCAPED.sub(lambda match: b"\\%03d" % ord(match[0]), data).decode("ascii") + '"'
        case dict():
            return "{" + ", ".join(f"[{_literal(name)}] = {_literal(item)}" for name, item in value.items()) + "}"
        case list():
            return "{" + ", ".join(map(_literal, value)) + "}"
        case _:
            raise TypeError(f"a constant of a script cannot be {value!r}")
