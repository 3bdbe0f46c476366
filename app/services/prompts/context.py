"""The CMS's documents in prompts: the project and the episode that a run belongs to."""

import json

from app.kit.json_values import JsonObject
from app.services.prompts.fences import fenced

PROJECT = "PROJECT"
EPISODE = "EPISODE"
HEADINGS = {PROJECT: "The project that the work belongs to:", EPISODE: "The episode that the work belongs to:"}


def context_text(project: JsonObject, episode: JsonObject) -> str:
    """Return the fields of both documents as fenced data; nothing for an empty document.

    Equal fields make an equal text, which providers' prompt caches need.
    """
    documents = ((PROJECT, project), (EPISODE, episode))
    parts = [f"{HEADINGS[label]}\n{fenced(label, shown(fields))}" for label, fields in documents if fields]
    return "\n\n".join(parts)


def shown(fields: JsonObject) -> str:
    """Return fields as JSON, one a line."""
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(value, ensure_ascii=False)}" for name, value in fields.items())
    return f"{{{lines}}}"
