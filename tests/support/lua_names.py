"""The names that a Lua file uses, compared with those that its first comment declares."""

import re
from collections.abc import Iterator

from tracker.store.lua_modules import LuaFile

_NO_CODE = re.compile(r"""--[^\n]*|'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*"|\.\.\.?""")
"""Comments, strings, and the dots that do not stand before a field's name."""
_TABLE = re.compile(r"\{([^{}]*)\}")
"""A table without other tables in it."""
_FIELD = re.compile(r"(^|,)\s*\w+\s*=(?!=)")
"""The name of a field in a table, which is no variable."""
_NAME = re.compile(r"(?<![.\w])[A-Za-z_]\w*")
_LOCAL = re.compile(r"\blocal (?!function\b)(\w+(?:, \w+)*)|\bfunction (\w+)|\bfor (\w+(?:, \w+)*) (?:in|=)")
_PARAMETERS = re.compile(r"\bfunction\b[^(]*\(([^)]*)\)")
_KEYWORDS = "and break do else elseif end false for function if in local nil not or repeat return then true until while"
_GLOBALS = (
    "cjson ipairs math pairs pcall rawget rawset redis select setmetatable string table tonumber tostring type unpack"
    " ARGV"
)
_LANGUAGE = frozenset(f"{_KEYWORDS} {_GLOBALS} call C".split())
"""What every file may use: Lua's keywords, its globals and those of Redis, and what stands before every script."""


def name_problems(file: LuaFile) -> list[str]:
    """What is wrong with the names that a file declares; nothing, if they are exactly those that it uses."""
    code = _without_fields(_NO_CODE.sub(" ", file.text))
    declared = [name for parameter in file.parameters for name in parameter.names]
    declared += [f"unpack_{form}" for form in file.packed]
    declared += [*(name for names in file.takes.values() for name in names), *file.later.values()]
    own, used = {*_listed(_LOCAL, code), *_listed(_PARAMETERS, code)}, set(_NAME.findall(code))
    found = {
        "declares, and does not use": set(declared) - used,
        "declares, and defines by itself": set(declared) & own,
        "uses, and does not declare": used - own - set(declared) - _LANGUAGE,
        "declares twice": {name for name in declared if declared.count(name) > 1},
    }
    return [f"{problem}: {', '.join(sorted(names))}" for problem, names in found.items() if names]


def _without_fields(code: str) -> str:
    """The code without the names of fields in tables, the innermost tables first."""
    while (simpler := _TABLE.sub(lambda table: "(" + _FIELD.sub(r"\1 ", table[1]) + ")", code)) != code:
        code = simpler
    return code


def _listed(pattern: re.Pattern[str], code: str) -> Iterator[str]:
    for match in pattern.finditer(code):
        for names in match.groups():
            yield from re.findall(r"\w+", names or "")
