"""`callboard job enqueue NAME --help`: the arguments of one job, from the schema that workers published."""

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import click

from callboard.cli.console.text import one_line
from callboard.jobs.errors import CallboardError

if TYPE_CHECKING:
    from callboard.jobs.model.job_type import JobType

#: How long the help waits for Postgres. Seconds.
_ANSWER: Final = 3.0
#: A default or a list of values is cut after this many characters.
_LONGEST_VALUE: Final = 60
_MOST_ARGUMENTS: Final = 100
#: Schemas may contain each other; a type is described this deep.
_DEEPEST: Final = 4


class EnqueueCommand(click.Command):
    """`job enqueue`, whose help shows the arguments of the job that the command names."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta[__name__] = list(args)
        return super().parse_args(ctx, args)

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        super().format_help_text(ctx, formatter)
        name = self._job_name(ctx)
        if name is not None:
            _write(name, formatter)

    def _job_name(self, ctx: click.Context) -> str | None:
        """Return the job's name in the arguments; None if there is none, or if click cannot read them."""
        try:
            values, _, _ = self.make_parser(ctx).parse_args(list(ctx.meta.get(__name__, ())))
        except click.UsageError:
            return None
        name = values.get("name")
        return name if isinstance(name, str) else None


def _write(name: str, formatter: click.HelpFormatter) -> None:
    shown = one_line(name)[:100]
    try:
        found = _published(name)
    except CallboardError as error:
        formatter.write_paragraph()
        formatter.write_text(f"The arguments of {shown} cannot be shown: {one_line(error.message)}")
        return
    if found is None:
        formatter.write_paragraph()
        formatter.write_text(f"No worker has published a job {shown}.")
        return
    if found.doc:
        formatter.write_paragraph()
        formatter.write_text(f"{shown}: {one_line(found.doc.strip().partition(chr(10) * 2)[0])}")
    rows = argument_rows(found.schema)
    with formatter.section(f"Arguments of {shown}, for --args"):
        if rows:
            formatter.write_dl(rows)
        else:
            formatter.write_text("none")


def _published(name: str) -> "JobType | None":
    """Return the job type. Raise CallboardError if it cannot be read, and start no server for it."""
    from callboard.cli.console.runtime import open_runtime, quiet_settings
    from callboard.jobs.errors import Unavailable

    settings = quiet_settings()
    if settings.database_url is None and not (settings.data_dir / "postgres").is_dir():
        raise Unavailable(f"CALLBOARD_DATABASE_URL is not set, and there is no {settings.data_dir}")
    with open_runtime() as runtime:
        runtime.platform.database.limits.answer = _ANSWER
        catalogue = runtime.platform.catalogue
        known = catalogue.find(catalogue.full_name(name))
        return known[0].type if known else None


def argument_rows(schema: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return each argument of a job's schema with its type, its default, and its description."""
    properties = schema.get("properties", {})
    required = set(schema.get("required", ()))
    places = [name for name in schema.get("x-parameters", ()) if name in properties]
    names = [*places, *(name for name in properties if name not in places)]
    rows = []
    for name in names[:_MOST_ARGUMENTS]:
        value = properties[name] if isinstance(properties[name], dict) else {}
        parts = [type_text(value, schema)]
        if name in required:
            parts.append("required")
        elif "default" in value:
            parts.append(f"default {_short(value['default'])}")
        else:
            parts.append("optional")
        if description := value.get("description"):
            parts.append(str(description))
        rows.append((one_line(str(name)), one_line("; ".join(parts))))
    if len(names) > _MOST_ARGUMENTS:
        rows.append(("…", f"{len(names) - _MOST_ARGUMENTS} more"))
    if schema.get("x-var-positional"):
        rows.append(("*", "any number of further values by position"))
    if schema.get("additionalProperties", True) is not False:
        rows.append(("**", "any further names"))
    return rows


def type_text(value: Mapping[str, Any], root: Mapping[str, Any], depth: int = 0) -> str:
    """Return the type of a JSON Schema in words: `array of string`, `string (date-time) or null`."""
    reference = value.get("$ref")
    if isinstance(reference, str):
        title = reference.rpartition("/")[2]
        found = root.get("$defs", {}).get(title)
        if not isinstance(found, dict) or depth >= _DEEPEST or found.get("type") == "object":
            return f"object {title}"
        return type_text(found, root, depth + 1)
    choices: Sequence[Any] = value.get("anyOf") or value.get("oneOf") or ()
    if choices and depth < _DEEPEST:
        return " or ".join(dict.fromkeys(type_text(one, root, depth + 1) for one in choices))
    if "const" in value:
        return _short(value["const"])
    if "enum" in value:
        return "one of " + ", ".join(_short(one) for one in value["enum"][:_MOST_ARGUMENTS])
    kind = value.get("type", "any value")
    text = " or ".join(kind) if isinstance(kind, list) else str(kind)
    items = value.get("items")
    if kind == "array" and isinstance(items, dict) and items and depth < _DEEPEST:
        return f"array of {type_text(items, root, depth + 1)}"
    return f"{text} ({value['format']})" if "format" in value else text


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONGEST_VALUE else text[: _LONGEST_VALUE - 1] + "…"
