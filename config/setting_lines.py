"""The settings in force as text, for `callboard config`."""

from dataclasses import dataclass
from datetime import timedelta

from pydantic import SecretStr

from callboard.config.redaction import MASK, mask_text
from callboard.config.settings import FIELDS, PREFIX, Settings, Source
from callboard.jobs.model.basics.durations import format_duration


@dataclass(frozen=True, slots=True)
class SettingLine:
    """One setting, as `callboard config` shows it. An empty value means unset; secrets are masked."""

    key: str
    value: str
    source: Source


def explain(settings: Settings) -> list[SettingLine]:
    """Return each setting's value, as text that the setting accepts, and where it came from."""
    return [
        SettingLine(PREFIX + key.upper(), _setting_text(getattr(settings, field)), settings.source(key))
        for key, field in FIELDS.items()
    ]


def _setting_text(value: object) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case SecretStr():
            return MASK
        case timedelta():
            return format_duration(value)
        case tuple():
            return ",".join(value)
        case _:
            return mask_text(str(value))
