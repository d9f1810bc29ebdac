"""Texts of values whose own code is not trusted: exact `str`, of bounded length.

A text that is cut says so.
"""

from typing import Any


def plain_text(value: Any) -> str:
    """Return the text of a value as an exact `str`.

    A subclass of `str` counts with its plain value, and its methods are not called. The `__str__` of any
    other value is called, and may raise anything.
    """
    text = value if issubclass(type(value), str) else str(value)
    return str.__str__(text)


def readable(value: Any) -> str:
    """Return the text of a value. If its own code raises an error, the text names that error."""
    try:
        return plain_text(value)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - own code may raise anything; interrupts pass
        return f"(its text cannot be read: {class_path(type(error))})"


def shortened(text: str, limit: int) -> str:
    """Return at most `limit` characters: the beginning, and how many characters were cut."""
    if len(text) <= limit:
        return text
    kept = limit - len(_mark(len(text)))
    return text[:kept] + _mark(len(text) - kept)


def shortened_to_end(text: str, limit: int) -> str:
    """Return at most `limit` characters: how many characters were cut, and the end."""
    if len(text) <= limit:
        return text
    kept = limit - len(_mark(len(text)))
    return _mark(len(text) - kept)[1:] + "\n" + text[-kept:]


def _mark(cut: int) -> str:
    return f" … {cut:,} characters cut"


def class_path(kind: type) -> str:
    """Return the module and the name of a class, or the name alone for a built-in class.

    The class's own code, such as its metaclass, is not called.
    """
    module = _MODULE(kind)
    name = str.__str__(_QUALNAME(kind))
    if not issubclass(type(module), str) or module == "builtins":
        return name
    return f"{str.__str__(module)}.{name}"


# The attributes as the interpreter holds them. A metaclass may define others of the same names.
_MODULE: Any = vars(type)["__module__"].__get__
_QUALNAME: Any = vars(type)["__qualname__"].__get__
