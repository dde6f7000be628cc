"""Checks a value against a type of a folder of RAML 1.0 libraries, as far as Marathon's API types use RAML.

Covers objects (required, optional and pattern properties), arrays, unions, enums, numbers and strings with their
limits, and references into other libraries ("uses"). Stricter than RAML in one point: a property that no type
names is an error, since in an app definition it is a slip of the pen.
"""

import re
from pathlib import Path

import yaml


class _Loader(yaml.SafeLoader):
    """YAML with RAML's !include, which only examples use: they are not read."""


_Loader.add_constructor("!include", lambda loader, node: None)

_SCALARS = {
    "string": str,
    "datetime": str,
    "boolean": bool,
    "number": (int, float),
    "integer": int,
    "nil": type(None),
}


class Libraries:
    """The libraries of one folder, read when they are first needed."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.loaded = {}

    def check(self, value, library, type_name):
        """Returns the list of what is wrong with value, each with its path; empty when it fits."""
        return list(self._check(value, type_name, library, "$"))

    def _library(self, file_name):
        if file_name not in self.loaded:
            with open(self.folder / file_name, encoding="utf-8") as file:
                self.loaded[file_name] = yaml.load(file, _Loader)
        return self.loaded[file_name]

    def _find(self, name, library):
        """(declaration, library it stands in) of a type's name; declaration None for a builtin type."""
        if name in _SCALARS or name in ("object", "array", "any"):
            return None, library
        alias, _, rest = name.rpartition(".")
        if alias:
            return self._find(rest, self._library(library)["uses"][alias])
        return self._library(library)["types"][name], library

    def _check(self, value, declared, library, path):
        if declared is None:
            declared = "string"  # RAML's default
        if isinstance(declared, str):
            yield from self._check_expression(value, declared.strip(), library, path)
            return
        base = declared.get("type", "object" if "properties" in declared else "string")
        problems = list(self._check(value, base, library, path))
        yield from problems
        if not problems:
            yield from self._check_facets(value, declared, library, path)

    def _check_expression(self, value, text, library, path):
        if text.startswith("(") and text.endswith(")"):
            text = text[1:-1].strip()
        if "|" in text:
            branches = [list(self._check(value, part, library, path)) for part in text.split("|")]
            if all(branches):
                yield f"{path}: fits none of {text}: " + "; ".join(branch[0] for branch in branches)
        elif text.endswith("[]"):
            yield from self._check_facets(value, {"type": "array", "items": text[:-2]}, library, path)
        else:
            declaration, home = self._find(text, library)
            if declaration is not None:
                yield from self._check(value, declaration, home, path)
            elif text in _SCALARS:
                # bool is a kind of int in Python, not in JSON
                if not isinstance(value, _SCALARS[text]) or (isinstance(value, bool) and text != "boolean"):
                    yield f"{path}: {value!r} is not of type {text}"
            elif text == "object" and not isinstance(value, dict):
                yield f"{path}: {value!r} is not an object"
            elif text == "array" and not isinstance(value, list):
                yield f"{path}: {value!r} is not an array"

    def _check_facets(self, value, declared, library, path):
        if "enum" in declared and value not in declared["enum"]:
            yield f"{path}: {value!r} is none of {', '.join(map(str, declared['enum']))}"
        if "minimum" in declared and value < declared["minimum"]:
            yield f"{path}: {value} is less than {declared['minimum']}"
        if "maximum" in declared and value > declared["maximum"]:
            yield f"{path}: {value} is more than {declared['maximum']}"
        if "pattern" in declared and not re.search(declared["pattern"], value):
            yield f"{path}: {value!r} does not match {declared['pattern']}"
        for low, high in (("minLength", "maxLength"), ("minItems", "maxItems")):
            if len(value) < declared[low] if low in declared else False:
                yield f"{path}: shorter than {low} {declared[low]}"
            if len(value) > declared[high] if high in declared else False:
                yield f"{path}: longer than {high} {declared[high]}"
        if isinstance(value, list):
            if declared.get("uniqueItems") and any(item in value[:k] for k, item in enumerate(value)):
                yield f"{path}: has an item twice"
            for k, item in enumerate(value):
                yield from self._check(item, declared.get("items", "any"), library, f"{path}[{k}]")
        if isinstance(value, dict) and "properties" in declared:
            yield from self._check_properties(value, declared["properties"], library, path)

    def _check_properties(self, value, properties, library, path):
        named, patterns = {}, []
        for key, kind in properties.items():
            if key.startswith("/") and key.endswith("/"):
                patterns.append((re.compile(key[1:-1]), kind))
                continue
            optional = key.endswith("?") or (isinstance(kind, dict) and kind.get("required") is False)
            named[key.rstrip("?")] = kind
            if not optional and key not in value:
                yield f"{path}: lacks {key}"
        for key, item in value.items():
            if key in named:
                yield from self._check(item, named[key], library, f"{path}.{key}")
                continue
            for pattern, kind in patterns:
                if pattern.search(key):
                    yield from self._check(item, kind, library, f"{path}.{key}")
                    break
            else:
                yield f"{path}: {key} is not a property of this type"
