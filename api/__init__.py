"""The HTTP API: routes that call services, and one form for every error."""

from pydantic import BaseModel, ConfigDict

# FastAPI defines 40 models of an OpenAPI document, which only that document needs. Pydantic builds them when
# it is first asked for, and not at their import. That saves 1.2 MiB. FastAPI has no option for it.
_before = BaseModel.model_config
BaseModel.model_config = ConfigDict(defer_build=True)
try:
    import fastapi.openapi.models  # noqa: F401
finally:
    BaseModel.model_config = _before
