"""Whether a model's prompts are put into its chat template."""

import json
import re
from pathlib import Path
from typing import Literal, NamedTuple

from interp.models.hub import cached_file
from interp.models.sources import ModelPlace

Chat = bool | Literal["auto"]
BASE_MODEL = re.compile(r"[-_.](base|pt|pretrained)$", re.IGNORECASE)
"""Names of base models, some of whose tokenizers carry a chat template all the same (Qwen3-8B-Base)."""
TEMPLATES = ("chat_template.jinja", "chat_template.json")


class ChatDecision(NamedTuple):
    """Whether prompts are put into the chat template, and why, in words for the record of a run."""

    chat: bool
    reason: str


def decide_chat(where: ModelPlace, tokenizer: object, chat: Chat) -> ChatDecision:
    """As asked for, or for instruction-tuned models.

    `auto` goes by the tokenizer's template and the model's name; the name of a folder is its last part, or the hub id
    where it is a snapshot in the hub's cache.
    """
    if chat != "auto":
        return ChatDecision(chat, f"prompt.chat is {str(chat).lower()}")
    if not getattr(tokenizer, "chat_template", None):
        return ChatDecision(False, "auto: the tokenizer has no chat template")
    name = _plain_name(where)
    if found := BASE_MODEL.search(name):
        return ChatDecision(False, f"auto: the name {name} ends in {found[1]!r}, as base models' do")
    return ChatDecision(True, "auto: the tokenizer has a chat template")


def has_template(where: ModelPlace) -> bool:
    """Whether a tokenizer's files hold a chat template; it is not read."""
    if any(_file(where, name) for name in TEMPLATES):
        return True
    if where.folder is not None and any(where.folder.glob("additional_chat_templates/*.jinja")):
        return True
    settings = _file(where, "tokenizer_config.json")
    try:
        return settings is not None and bool(json.loads(settings.read_text(encoding="utf-8")).get("chat_template"))
    except (ValueError, AttributeError, RecursionError):
        return True  # whoever loads the tokenizer says what is wrong with it


def _file(where: ModelPlace, name: str) -> Path | None:
    if where.folder is None:
        return cached_file(where.name, name)
    path = where.folder / name
    return path if path.is_file() else None


def _plain_name(where: ModelPlace) -> str:
    """A model's name without what depends on where its folder lies or how its path is written."""
    if where.kind != "folder" or where.folder is None:
        return where.name.rstrip("/")
    folder = where.folder.absolute()
    for part in (folder, *folder.parents):
        if part.name.startswith("models--"):
            return part.name.removeprefix("models--").replace("--", "/")
    return folder.resolve().name if folder.name in ("", ".", "..") else folder.name
