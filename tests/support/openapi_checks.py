"""Compares responses with the API's own OpenAPI description, by a validator from another project."""

import json
import re
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

from openapi_schema_validator import OAS31Validator, oas31_format_checker

from tests.support.api_client import Answer
from tracker.domain.operation import Json

TRANSPORT = {
    "content-type",
    "content-length",
    "server",
    "transfer-encoding",
    "referrer-policy",
    "x-content-type-options",
}
"""Response headers that a description does not list, or that only browsers use."""


def faults(value: Any, schema: Json, description: Json) -> list[str]:
    """The errors of a value under a schema of the description."""
    validator = OAS31Validator(
        {"allOf": [schema], "components": description["components"]}, format_checker=oas31_format_checker
    )
    return [f"{list(error.path)}: {error.message}"[:300] for error in validator.iter_errors(value)]


def resolved(item: Json, description: Json) -> Json:
    """An item, or the component that it refers to."""
    while "$ref" in item:
        place: Any = description
        for part in item["$ref"].removeprefix("#/").split("/"):
            place = place[part]
        item = place
    return item


def examples(description: Json) -> Iterator[tuple[str, Any, Json]]:
    """Every example of the description: its position, its value, and its schema."""
    for path, item in description["paths"].items():
        for method, operation in item.items():
            if method in {"parameters", "servers"}:
                continue
            media = list(operation.get("requestBody", {}).get("content", {}).values())
            for answer in operation["responses"].values():
                media += resolved(answer, description).get("content", {}).values()
            for content in media:
                for name, example in content.get("examples", {}).items():
                    yield f"{method} {path} {name}", example["value"], content["schema"]
    for name, schema in description["components"]["schemas"].items():
        for example in schema.get("examples", ()):
            yield name, example, {"$ref": f"#/components/schemas/{name}"}


def disagreements(answer: Answer, method: str, path: str, description: Json) -> list[str]:
    """How a response differs from the description of the responses to a method at a path."""
    operation = description["paths"][path][method.lower()]
    if str(answer.status) not in operation["responses"]:
        return [f"{answer.status} is not among the answers"]
    said = resolved(operation["responses"][str(answer.status)], description)
    return [*_header_faults(answer, said["headers"], description), *_body_faults(answer, said, description)]


def _header_faults(answer: Answer, said: Json, description: Json) -> Iterator[str]:
    headers = {name.lower(): resolved(header, description) for name, header in said.items()}
    sent = {name.lower(): value for name, value in answer.headers.items()}
    yield from (f"{name} is not described" for name in sent.keys() - headers.keys() - TRANSPORT)
    for name, header in headers.items():
        if name not in sent:
            if header["required"]:
                yield f"{name} is missing"
            continue
        value = int(sent[name]) if header["schema"].get("type") == "integer" else sent[name]
        yield from (f"{name}: {fault}" for fault in faults(value, header["schema"], description))


def _body_faults(answer: Answer, said: Json, description: Json) -> Iterator[str]:
    content = said.get("content", {})
    if not content:
        if answer.body:
            yield "there is a body"
        return
    if answer.status == HTTPStatus.ACCEPTED and not answer.body:
        return  # as `Prefer: return=minimal` has it
    media_type = re.split(r"\s*;", answer.headers["Content-Type"])[0]
    if media_type not in content and "*/*" not in content:
        yield f"{media_type} is not among {sorted(content)}"
    elif media_type == "application/json":
        yield from faults(json.loads(answer.body), content[media_type]["schema"], description)
