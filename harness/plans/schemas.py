"""JSON Schema (draft 2020-12) of plan files and of run.json, from the models that check them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydantic import BaseModel

from harness import workloads
from harness.plans.arm import Arm
from harness.plans.plan import Exclusion, Plan
from harness.results.record_schema import Record
from harness.wire.load_options import LoadSettings, Request
from harness.wire.options import ServerSettings, WorkloadOptions
from harness.wire.setting import LONGEST_TEXT

Schema = dict[str, Any]

DIALECT = "https://json-schema.org/draft/2020-12/schema"

# definition in the schema of run.json → the model that declares its keys, and where the plan's schema has it
_RECORDED: dict[str, tuple[type[BaseModel], str]] = {
    "Plan": (Plan, ""),
    "PlannedArm": (Arm, "Arm"),
    "Workload": (WorkloadOptions, "WorkloadOptions"),
    "PlannedRequest": (Request, "Request"),
    "Exclude": (Exclusion, "Exclusion"),
    "ServerOptions": (ServerSettings, "Arm"),
    "Load": (LoadSettings, ""),
}


def of_plan() -> Schema:
    """The schema of a plan file (TOML).

    Some editors ignore the description beside a reference, or the reference, so there are none. TOML has no
    null, so no value may be null.
    """
    raw = Plan.model_json_schema()
    schema = _changed(_without_references(raw, raw.pop("$defs")), _tidy_for_toml)
    of_workload, of_arms = (schema["properties"][key] for key in ("workload", "arms"))
    own_code = {"type": "string", "pattern": "[:/.]"}  # see `wire.spelling.is_own`
    names = {"anyOf": [{"enum": list(workloads.NAMES)}, own_code]}
    for workload in (of_workload, of_arms["items"]["properties"]["workload"]):
        name = workload["properties"]["name"]
        workload["properties"]["name"] = {**names, "description": name["description"]}
    for key in of_arms["items"]["properties"]["workload"]["properties"].values():
        key.pop("default", None)  # of an arm it is what the plan says
    of_workload["properties"]["name"]["default"] = WorkloadOptions().name
    schema["anyOf"] = [{"required": ["concurrency"]}, {"required": ["arrivals"]}]
    return {"$schema": DIALECT, "title": "A plan of execbench", **schema}


def of_run() -> Schema:
    """The schema of run.json, of all layouts that this version reads.

    Keys may be added without a new layout, so unknown ones are allowed everywhere.
    """
    schema = _changed(Record.model_json_schema(), _tidy)
    planned = _changed(Plan.model_json_schema(), _tidy)
    for name, (model, place) in _RECORDED.items():
        source = planned["$defs"][place] if place else planned
        _describe(schema["$defs"][name], source, model)
    return {"$schema": DIALECT, "title": "run.json of execbench", **_changed(schema, _allow_more)}


def _describe(recorded: Schema, planned: Schema, model: type[BaseModel]) -> None:
    """Describe the recorded settings as the plan's schema does, and add those on which no reader relies."""
    keys = recorded.setdefault("properties", {})
    for key in model.model_fields:
        if setting := planned["properties"].get(key):  # not hidden
            keys.setdefault(key, setting).setdefault("description", setting["description"])


def _without_references(node: Any, definitions: Schema) -> Any:
    """Replace each reference by a copy of what it refers to; what stands beside it has priority."""
    if isinstance(node, list):
        return [_without_references(one, definitions) for one in node]
    if not isinstance(node, dict):
        return node
    node = dict(node)
    if reference := node.pop("$ref", None):
        node = {**definitions[reference.rpartition("/")[2]], **node}
    return {key: _without_references(one, definitions) for key, one in node.items()}


def _changed(node: Any, change: Callable[[Schema], Schema]) -> Any:
    """Change all objects inside, the innermost first."""
    if isinstance(node, list):
        return [_changed(one, change) for one in node]
    if isinstance(node, dict):
        return change({key: _changed(one, change) for key, one in node.items()})
    return node


def _tidy(node: Schema) -> Schema:
    """Drop what pydantic adds and no reader needs: titles made of names, and bounds on the memory."""
    noise = {"maxLength": LONGEST_TEXT, "propertyNames": {}, "default": None}
    return {
        key: value
        for key, value in node.items()
        if not (key in ("title", "flag") and isinstance(value, str))
        and not (key in noise and value == noise[key])
    }


def _tidy_for_toml(node: Schema) -> Schema:
    """As `_tidy`, without null, and without the default of a table, whose keys have their own."""
    node = _tidy(node)
    if isinstance(node.get("default"), dict) and "properties" in node:
        del node["default"]
    kinds = [kind for kind in node.get("anyOf", ()) if kind != {"type": "null"}]
    if len(kinds) == len(node.get("anyOf", ())):
        return node
    rest = {key: value for key, value in node.items() if key != "anyOf"}
    return {**kinds[0], **rest} if len(kinds) == 1 else {"anyOf": kinds, **rest}


def _allow_more(node: Schema) -> Schema:
    return {key: value for key, value in node.items() if (key, value) != ("additionalProperties", False)}
