"""What is written down of how a LoRA was made, when it is made, and how a person reads it. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

Record = dict[str, Any]
"""session, dataset, config, seed, step, engines, base and, of an import, source; what is unknown is left out."""

ENGINE_NAMES = {"simpletuner": "SimpleTuner", "comfyui": "ComfyUI"}
_SHORT_COMMIT = 12


def engines_at(made_with: Sequence[Mapping[str, Any]], step: int) -> dict[str, Any] | None:
    """What made the weights of this step: of the last start of a trainer that began before it."""
    began = [start for start in made_with if start["from_step"] < step]
    return {name: value for name, value in began[-1].items() if name != "from_step"} if began else None


def begun(made_with: Sequence[Mapping[str, Any]], from_step: int, engines: Mapping[str, Any]) -> list[dict[str, Any]]:
    """With another start of a trainer, which goes on from this step: what was done beyond it is done again."""
    return [
        *(dict(start) for start in made_with if start["from_step"] < from_step),
        {**engines, "from_step": from_step},
    ]


def as_markdown(card: Mapping[str, Any]) -> str:
    """A card as text; what is not known is not mentioned."""
    sections = [
        f"# {_line(card['name'])} (version {card['version']})",
        _table(
            {
                "File": f"`{card['file_name']}`",
                "SHA-256": f"`{card['sha256']}`",
                "Size": f"{card['file_size_mb']} MB",
                "Rank / alpha": " / ".join(str(card[name]) for name in ("rank", "alpha") if card[name] is not None),
                "Trigger words": ", ".join(f"`{_line(word)}`" for word in card["trigger_words"]),
                "Registered": card["created_at"],
                "From": card["source"],
            }
        ),
        _section("Base model", _base(card["base"])),
        _section("Training", _training(card)),
        _section("Dataset", _dataset(card["dataset"])),
        _section("Made with", _engines(card["engines"])),
        _section("Configuration", {name: f"`{_line(value)}`" for name, value in (card["config"] or {}).items()}),
        _section("Samples", {f"Step {each['step']}": each["url"] for each in card["samples"]}),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _base(base: Mapping[str, Any]) -> dict[str, Any]:
    licence, url = base.get("licence"), base.get("licence_url")
    return {"Name": base["name"], "Licence": f"[{licence}]({url})" if licence and url else licence or url}


def _training(card: Mapping[str, Any]) -> dict[str, Any]:
    session = card["session"] or {}
    return {
        "Session": f"`{session['id']}` {_line(session['name'])}" if session else None,
        "Parent session": f"`{session['parent_id']}`" if session.get("parent_id") else None,
        "Step": None if card["step"] is None else f"{card['step']} of {(card['config'] or {}).get('steps', '?')}",
        "Loss": card["loss"],
        "Seed": card["seed"],
    }


def _dataset(dataset: Mapping[str, Any] | None) -> dict[str, Any]:
    found = dataset or {}
    version, version_id = found.get("version"), found.get("version_id")
    return {
        "Name": _line(found.get("name")),
        "Id": f"`{found['id']}`" if found else None,
        "Version": None if version is None else f"{version} (`{version_id}`)",
        "Images": found.get("images"),
    }


def _engines(engines: Mapping[str, Any] | None) -> dict[str, Any]:
    found = engines or {}
    told = {name: _engine(found[key]) for key, name in ENGINE_NAMES.items() if found.get(key)}
    return {"MASUKA": found.get("masuka"), **told, "GPU": found.get("gpu")}


def _engine(engine: Mapping[str, Any]) -> str:
    commit = f", commit {engine['commit'][:_SHORT_COMMIT]}" if engine.get("commit") else ""
    return f"{engine['version']}{commit}, torch {engine.get('torch') or '?'}"


def _section(title: str, rows: Mapping[str, Any]) -> str:
    table = _table(rows)
    return f"## {title}\n\n{table}" if table else ""


def _table(rows: Mapping[str, Any]) -> str:
    lines = [f"| {name} | {value} |" for name, value in rows.items() if value not in (None, "")]
    return "\n".join(["| | |", "| --- | --- |", *lines]) if lines else ""


def _line(value: object) -> str:
    """A value inside a table: nothing in it ends the cell or the line."""
    text = "" if value is None else str(value)
    return " ".join(text.split()).replace("|", "\\|").replace("`", "'")
