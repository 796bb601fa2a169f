"""Turn Kubernetes' OpenAPI document into the JSON schemas that kubeconform reads: `convert_schemas.py SWAGGER FOLDER`.

One file a kind, which refers to `_definitions.json`; no object may have a field that its schema does not know.
"""

import json
import sys
from pathlib import Path
from typing import Any

INT_OR_STRING = "io.k8s.apimachinery.pkg.util.intstr.IntOrString"
QUANTITY = "io.k8s.apimachinery.pkg.api.resource.Quantity"


def convert(swagger: dict[str, Any], folder: Path) -> int:
    """Write the schemas of all kinds into `folder`; how many there are."""
    definitions = {name: close(definition) for name, definition in swagger["definitions"].items()}
    definitions[INT_OR_STRING] = {"oneOf": [{"type": "string"}, {"type": "integer"}]}
    definitions[QUANTITY] = {"oneOf": [{"type": "string"}, {"type": "number"}]}
    folder.mkdir(parents=True, exist_ok=True)
    num_kinds = 0
    for name, definition in swagger["definitions"].items():
        kinds = definition.get("x-kubernetes-group-version-kind", [])
        if len(kinds) == 1:  # those of many groups, such as DeleteOptions, are no objects of their own
            group, version, kind = (kinds[0][key] for key in ("group", "version", "kind"))
            suffix = "-".join(part for part in (group.partition(".")[0], version) if part)
            api_version = f"{group}/{version}" if group else version
            schema = definitions[name]
            schema["properties"]["apiVersion"] = {"type": "string", "enum": [api_version]}
            schema["properties"]["kind"] = {"type": "string", "enum": [kind]}
            schema["required"] = sorted({*schema.get("required", ()), "apiVersion", "kind"})
            reference = {"$ref": f"_definitions.json#/definitions/{name}"}
            (folder / f"{kind.lower()}-{suffix}.json").write_text(json.dumps(reference))
            num_kinds += 1
    (folder / "_definitions.json").write_text(json.dumps({"definitions": definitions}))
    return num_kinds


def close(schema: Any) -> Any:
    """`schema` without unknown fields, at every depth, and with references that begin at the file's root."""
    if isinstance(schema, list):
        return [close(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: close(value) for key, value in schema.items() if not key.startswith("x-") and key != "description"}
    if "properties" in schema:
        closed["properties"] = {name: close(value) for name, value in schema["properties"].items()}
        closed.setdefault("additionalProperties", False)
    return closed


if __name__ == "__main__":
    convert(json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2]))
