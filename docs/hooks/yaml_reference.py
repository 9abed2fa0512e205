"""Every key of every YAML as tables, from the JSON Schemas that `configs/` writes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from docs.hooks.markup import code, prose, table

SCHEMAS = {  # file under configs/schema: (heading, what it describes)
    "run": ("A fine-tune", "configs/finetune/NAME.yaml"),
    "deploy": ("An environment", "configs/deploy/ENV.yaml"),
    "gate": ("A gate", "configs/gates/NAME.yaml"),
    "smoke": ("Smoke requests", "the file that smoke: of an environment names"),
    "verdict": ("A verdict", "build/NAME/gate/verdict.json, written by tunegate gate"),
}
BOUNDS = {
    "minimum": "at least",
    "exclusiveMinimum": "above",
    "maximum": "at most",
    "exclusiveMaximum": "below",
    "minItems": "items at least",
    "maxItems": "items at most",
}
CHOICES = ("rule", "test", "kind")  # keys whose value says which section it is
WORDS = {"object": "map", "array": "list"}
Schema = dict[str, Any]


def yaml_reference(folder: Path) -> str:
    parts = []
    for name, (heading, what) in SCHEMAS.items():
        schema = json.loads((folder / f"{name}.json").read_text(encoding="utf8"))
        meaning = f"{prose(schema.get('description', ''))} In {code(what)}."
        parts += [f"## {heading}", meaning, *sections(schema, schema, "")]
    return "\n\n".join(parts)


def sections(schema: Schema, root: Schema, path: str) -> Iterator[str]:
    """The table of this object's keys, then the sections below it, each under a heading that is its path."""
    keys, required = schema.get("properties", {}), schema.get("required", [])
    rows = [row(name, key, root, name in required) for name, key in keys.items()]
    yield table(["key", "type", "default", "meaning"], rows)
    for name, key in keys.items():
        for suffix, below in objects(key, root):
            yield f"### {code(path + name + suffix)}"
            if below.get("description"):
                yield prose(below["description"])
            yield from sections(below, root, f"{path}{name}{suffix}.")


def row(name: str, key: Schema, root: Schema, required: bool) -> list[str]:
    meaning = key.get("description", resolved(key, root).get("description", ""))
    return [code(name), kind(key, root), "**required**" if required else default(key, root), prose(meaning)]


def default(key: Schema, root: Schema) -> str:
    """As one would write it; a section has the defaults of its keys."""
    value = key.get("default")
    if any(objects(key, root)):
        return "see below"
    return code(value if isinstance(value, str) and value else json.dumps(value))


def objects(key: Schema, root: Schema) -> Iterator[tuple[str, Schema]]:
    """The objects with keys of their own that this key may hold, and what is written after its name for each."""
    key = resolved(key, root)
    if "properties" in key:
        keys = key["properties"]
        chosen = [f"{name}: {keys[name]['const']}" for name in CHOICES if "const" in keys.get(name, {})]
        yield f" ({', '.join(chosen)})" if chosen else "", key
    for one in (*key.get("anyOf", []), *key.get("oneOf", [])):
        yield from objects(one, root)
    for suffix, inner in (("[]", key.get("items")), (".NAME", key.get("additionalProperties"))):
        if isinstance(inner, dict):
            yield from ((suffix + more, below) for more, below in objects(inner, root))


def kind(key: Schema, root: Schema) -> str:
    """What may stand there, in words."""
    key = resolved(key, root)
    if "const" in key or "enum" in key:
        return ", ".join(code(one) for one in key.get("enum", [key.get("const")]))
    choices = [*key.get("anyOf", []), *key.get("oneOf", [])]
    if choices:
        return " or ".join(dict.fromkeys(kind(one, root) for one in choices))
    name = str(key.get("type", "anything"))
    word = "section" if "properties" in key else WORDS.get(name, name)
    if word == "list" and key.get("items"):
        word += f" of {kind(key['items'], root)}"
    bounds = [f"{said} {key[bound]}" for bound, said in BOUNDS.items() if bound in key]
    if key.get("pattern"):
        bounds.append(f"like {code(key['pattern'])}")
    return ", ".join([word, *bounds])


def resolved(key: Schema, root: Schema) -> Schema:
    return root["$defs"][key["$ref"].removeprefix("#/$defs/")] if "$ref" in key else key
