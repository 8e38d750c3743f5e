"""The first cell: everything is installed, brought back and started, or found as it was. It can be run again."""

import json
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from api.colab import host, keys, service
from api.colab.address import Address, address, settled_tunnel
from api.colab.card import Machine, Verdict, Wish, judge
from api.colab.client import Api
from api.colab.errors import ServiceProblem
from api.colab.notebook import Notebook
from api.colab.programs import Programs
from api.colab.service import Service
from api.colab.show import Checklist, Live
from api.engines import catalogue, gpu

ROOT = Path(__file__).resolve().parent.parent.parent
STEPS = ("Keys", "Machine", "Environment", "State", "Engines", "Service", "Address")
GB = 10**9
GIB = 2**30


def set_up(base_model: Wish = "auto", drive_folder: str = "") -> Notebook:
    """What the other cells work with. Raises NotebookError; what was done by then is found by the next run."""
    checklist = Checklist.of(*STEPS)
    try:
        return _set_up(checklist, base_model, drive_folder)
    except BaseException:
        checklist.failed()
        raise


def _set_up(checklist: Checklist, wish: Wish, drive_folder: str) -> Notebook:
    found = _keys(checklist, drive_folder)
    env = keys.environment(os.environ, found)
    verdict = _judge(checklist, wish, env)
    checklist.tell("Environment", "installing; a minute the first time")
    Programs(ROOT, {**env, "MASUKA_PYTHON": sys.executable}).run(
        [str(ROOT / "scripts" / "bootstrap")], lambda line: checklist.tell("Environment", line)
    )
    programs = Programs(ROOT, env)
    facts = json.loads(programs.module("api.colab.facts").splitlines()[-1])
    checklist.done("Environment", "its own; this notebook's packages were not touched")
    _restore(checklist, programs, facts, drive_folder)
    _install(checklist, programs, verdict.base_model)
    api = Api(facts["url"], facts["token"])
    running = Service(ROOT, Path(facts["data_dir"]), api)
    checklist.tell("Service", "looking for one that runs")
    began = service.ensure(running, _named(env, facts["port"]), lambda said: checklist.tell("Service", said))
    checklist.done("Service", "started" if began else "runs already")
    where = _address(checklist, api, facts)
    notebook = Notebook(api, programs, running.data_dir, where, verdict.base_model)
    Live().text(_what_next(notebook, verdict, new_token=facts["token"] if facts["token_is_new"] else ""))
    return notebook


def _keys(checklist: Checklist, drive_folder: str) -> dict[str, str]:
    checklist.tell("Keys", "looking into the environment and Colab's Secrets")
    found = keys.found(os.environ)
    if drive_folder:
        found["MASUKA_BACKUP_DIR"] = str(host.mount_drive() / drive_folder)
    checklist.done(
        "Keys", ", ".join(found) or "none; HF_TOKEN, NGROK_AUTH_TOKEN and S3_* can be set in Colab's Secrets"
    )
    return found


def _judge(checklist: Checklist, wish: Wish, env: Mapping[str, str]) -> Verdict:
    """Before anything is installed: it may not be worth it."""
    checklist.tell("Machine", "asking for the GPU")
    data_dir = Path(env.get("MASUKA_DATA_DIR") or ROOT / "data")
    engines_dir = Path(env.get("MASUKA_ENGINES_DIR") or data_dir / "engines")
    machine = Machine(
        gpu.detect(),
        os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB,
        shutil.disk_usage(data_dir if data_dir.exists() else ROOT).free / GB,
        hf_token=bool(env.get("HF_TOKEN")),
        has_flux_dev=(engines_dir / catalogue.FLUX_DEV.name).exists(),
    )
    verdict = judge(machine, wish)
    checklist.done("Machine", verdict.found)
    if verdict.words:
        Live().text("\n".join(verdict.words))
    return verdict


def _restore(checklist: Checklist, programs: Programs, facts: Mapping[str, Any], drive_folder: str) -> None:
    if not facts["has_backup_place"]:
        checklist.done("State", "on this machine alone, and gone with it: set S3_BUCKET_NAME and its keys to keep it")
        return
    if Api(facts["url"], facts["token"]).status("/health")[0]:
        checklist.done("State", "in use")
        return
    checklist.tell("State", "looking for a backup")
    best = " A Drive folder is best effort: Drive may lose what it said it wrote." if drive_folder else ""
    checklist.done("State", restored(programs.masuka("restore", "--if-needed", "--json")) + best)


def restored(said: str) -> str:
    """In words, of what `masuka restore` said."""
    _, brace, rest = said.partition("{")
    if not brace:
        return "nothing to restore"
    found = json.loads(brace + rest)
    lost = f", but {len(found['missing'])} files are missing" if found["missing"] else ""
    return f"Restored {found['snapshot']}: {found['rows']} rows{lost}."


def _install(checklist: Checklist, programs: Programs, base_model: str) -> None:
    checklist.tell("Engines", "installing; some minutes the first time")
    wanted = dict.fromkeys(("comfyui", "simpletuner", "flux-tiny", base_model))
    programs.masuka("install", *wanted, tell=lambda line: checklist.tell("Engines", line))
    checklist.done("Engines", ", ".join(wanted))


def _named(env: Mapping[str, str], port: int) -> dict[str, str]:
    """With Colab's proxy among the names under which browsers may come."""
    proxied = host.proxy_url(port)
    if proxied is None:
        return dict(env)
    own = {"MASUKA_ALLOWED_HOSTS": proxied.partition("://")[2], "MASUKA_CORS_ORIGINS": proxied}
    return {**env, **{name: ",".join(filter(None, (env.get(name), value))) for name, value in own.items()}}


def _address(checklist: Checklist, api: Api, facts: Mapping[str, Any]) -> Address:
    checklist.tell("Address", "asking for it")
    tunnel = settled_tunnel(api) if facts["wants_tunnel"] else None
    found = address(tunnel, facts["url"], facts["port"])
    checklist.done("Address", f"{found.url}  {found.note}".strip())
    return found


def _what_next(notebook: Notebook, verdict: Verdict, new_token: str) -> str:
    url = notebook.address.url
    lines = [
        f"API     {url}/docs",
        f"Canvas  {url}/comfyui/",
        f"Way in  {_link(notebook)}  (opens the canvas, once, within 10 minutes)",
        f"Model   {verdict.base_model}",
    ]
    shown = f"{new_token}  (shown once: clear this output before you share it)  " if new_token else ""
    lines.append(f"Token   {shown}print(masuka.token)")
    if host.is_colab():
        lines.append("Colab's free plan does not allow to work mainly through another web page than this notebook.")
    return "\n".join(
        [*lines, "", "Next: run the second cell to train, the third to draw, the fourth when something is wrong."]
    )


def _link(notebook: Notebook) -> str:
    """A one-time link at the address where the user's browser is."""
    try:
        made = notebook.api.post("/api/door/links?to=/comfyui/")
    except ServiceProblem as exc:
        if exc.code != "door_open":
            raise
        return f"{notebook.address.url}/comfyui/"
    return f"{notebook.address.url}/door?{made['url'].partition('/door?')[2]}"
