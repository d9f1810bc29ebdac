"""The shape of a call: which arguments a function takes, by position and by name, and whether a call fits."""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

Parameters = dict[str, inspect.Parameter]

#: An error names at most this many fields.
MOST_FIELDS: Final = 20
_LONGEST: Final = 60
_MISSING: Final = inspect.Parameter.empty
_BY_POSITION: Final = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_BY_NAME: Final = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


@dataclass(frozen=True, slots=True)
class Shape:
    """The names in a signature: which can be given by position, which by name, and which are required."""

    positional: tuple[str, ...]
    named: frozenset[str]
    required: tuple[str, ...]
    var_positional: bool
    var_keyword: bool

    @classmethod
    def of(cls, parameters: Parameters) -> "Shape":
        kinds = {item.kind for item in parameters.values()}
        usual = [item for item in parameters.values() if item.kind in {*_BY_POSITION, *_BY_NAME}]
        return cls(
            positional=tuple(item.name for item in usual if item.kind in _BY_POSITION),
            named=frozenset(item.name for item in usual if item.kind in _BY_NAME),
            required=tuple(item.name for item in usual if item.default is _MISSING),
            var_positional=inspect.Parameter.VAR_POSITIONAL in kinds,
            var_keyword=inspect.Parameter.VAR_KEYWORD in kinds,
        )

    def problems(self, given: int, kwargs: Mapping[str, Any]) -> dict[str, str]:
        """Return what is wrong with a call, by field. Empty when Python would accept the call.

        given: the number of positional arguments.
        """
        fields: dict[str, str] = {}
        taken = self.positional[:given]
        if self._is_simple_match(taken, given, kwargs):
            return fields
        most = len(self.positional)
        if given > most and not self.var_positional:
            fields[f"args[{most}]"] = f"one too many: {most} accepted by position, {given} given"
        for name in kwargs:
            if name in self.named:
                if name in taken:
                    fields[root_of(name)] = "given twice, by position and by name"
            elif not self.var_keyword:
                known = name in self.positional
                fields[root_of(name)] = "accepted by position only" if known else "no such argument"
            if len(fields) >= MOST_FIELDS:
                return fields
        for name in self.required:
            if name not in taken and (name not in kwargs or name not in self.named):
                field = root_of(name) if name in self.named else f"args[{self.positional.index(name)}]"
                fields[field] = "missing"
        return fields

    def _is_simple_match(self, taken: tuple[str, ...], given: int, kwargs: Mapping[str, Any]) -> bool:
        """Whether each argument is a named parameter, given once, and none is missing.

        A fast check that nearly every call passes.
        """
        if not self.named.issuperset(kwargs):
            return False
        names = {*taken, *kwargs} if taken else kwargs
        if len(names) != given + len(kwargs):
            return False
        return all(map(names.__contains__, self.required))


def root_of(name: str) -> str:
    """Return the path of a named argument: `kwargs.name`."""
    return f"kwargs.{key_path(name)}"


def key_path(name: str) -> str:
    """Return a key as a part of a path: cut to 60 characters, on one line."""
    return cut(name if name.isprintable() else repr(name))


def cut(text: str) -> str:
    """Cut a text to 60 characters."""
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
