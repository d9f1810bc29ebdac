"""The HTTP API: routes that call services, and one form for every error."""

from pydantic import BaseModel, ConfigDict

# FastAPI defines 40 models of an OpenAPI document. They are used only when the document is first asked for.
# Then pydantic builds them, not at their import: that saves 1.2 MiB, and 0.07 s of the start. FastAPI has no
# option for it.
_before = BaseModel.model_config
BaseModel.model_config = ConfigDict(defer_build=True)
try:
    import fastapi.openapi.models  # noqa: F401
finally:
    BaseModel.model_config = _before
