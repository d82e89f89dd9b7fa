"""``isocenter schema``: what a suite may say, as JSON Schema for editors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .schema import Suite, suite_model
from .spec import Spec


def editor_schema(plugin_specs: Sequence[type[Spec]] = ()) -> dict[str, Any]:
    """JSON Schema (2020-12) of the file of a suite, the kinds of plugins included.

    It is that of the resolved suite, but for what a file may leave out or write shorter: its name, the name of its only
    dataset, and, where it extends another one, everything. Rules between values are beyond it; ``isocenter check``
    knows them.
    """
    whole = suite_model(plugin_specs).model_json_schema()
    properties = whole["properties"]
    for name in ("data", "tasks"):
        properties[name]["additionalProperties"] = False  # names that are none
    (dataset,) = properties["data"]["patternProperties"].values()
    properties["data"] = {"anyOf": [properties["data"], dataset]}
    whole["required"].remove("name")
    extended = {
        **properties,
        **{name: {"type": "object"} for name in ("data", "tasks")},
        "methods": {"anyOf": [properties["methods"], {"type": "object"}]},
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Suite of isocenter",
        "description": (Suite.__doc__ or "").partition("\n\n")[0],
        "type": "object",
        "if": {"required": ["extends"]},
        "then": {"properties": extended, "additionalProperties": False},
        "else": {key: whole[key] for key in ("properties", "required", "additionalProperties")},
        "$defs": whole["$defs"],
    }
