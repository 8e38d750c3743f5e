"""Compares what was promised with what is true. Pure: a ledger and facts in, a verdict out."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from api.domain.job import TERMINAL
from tests.faults.campaign.facts import Facts, FileFact, JobFact, NamedFile, SubjectFact
from tests.faults.campaign.ledger import Entry

ENDED = frozenset(status.value for status in TERMINAL)
SLACK_SECONDS = 30.0
"""A fault may hit a job so long before the job is seen to suffer: a frozen process, a lease that runs out."""
WORKER_DEATHS = (
    "worker-gpu kill",
    "worker-gpu freeze",
    "worker-gpu hang",
    "supervisor kill",
    "supervisor hang",
    "postgres kill",
    "postgres freeze",
    "postgres cut",
)
COMFYUI_DEATHS = ("comfyui kill", "comfyui freeze", "comfyui hang", "websocket drop")
TRAINER_DEATHS = ("trainer kill", "trainer freeze", "trainer hang", "runner kill", "runner freeze", "runner hang")
STORAGE_TROUBLES = ("s3 kill", "s3 freeze", "s3 cut")
ATTEMPT_KILLERS = (*WORKER_DEATHS, *COMFYUI_DEATHS, *TRAINER_DEATHS, *STORAGE_TROUBLES, "disk exhaust")
AT_ONCE = {"out_of_memory": ("gpu-memory exhaust",), "disk_full": ("disk exhaust",)}
"""Codes of failures that one fault explains."""
IN_EVERY_ATTEMPT = frozenset(
    {
        "worker_lost",
        "comfyui_died",
        "comfyui_silent",
        "comfyui_start_failed",
        "prompt_lost",
        "prompt_interrupted",
        "killed",
        "trainer_lost",
        "trainer_interrupted",
        "trainer_hung",
        "database_unreachable",
        "storage_unreachable",
    }
)
"""Codes of failures that need a fault for every attempt."""


@dataclass
class Verdict:
    """Every list of wrongs must be empty."""

    accepted: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    failed_by_code: Counter[str] = field(default_factory=Counter)
    wrongs: dict[str, list[str]] = field(default_factory=dict)

    @property
    def sound(self) -> bool:
        return not any(self.wrongs.values())


def judge(entries: Sequence[Entry], facts: Facts) -> Verdict:
    """What became of everything that was accepted, and what is there that should not be."""
    accepted = {entry.about["key"]: entry for entry in entries if entry.event == "accepted"}
    asked = {entry.about["key"]: entry for entry in entries if entry.event == "asked"}
    work = [one for entry in accepted.values() if entry.about["kind"] in ("image", "training") for one in _ids(entry)]
    named = {fact.key for fact in facts.subjects.values() if fact.key}
    named |= {row.key for row in (*facts.models, *facts.dataset_images)}
    verdict = Verdict(accepted=len(work))
    verdict.statuses.update(facts.subjects[one].status for one in work if one in facts.subjects)
    verdict.failed_by_code.update(job.error_code or "" for job in facts.jobs.values() if job.status == "failed")
    verdict.wrongs = {
        "lost": [one for one in work if one not in facts.subjects or facts.subjects[one].job_id not in facts.jobs],
        "duplicated": list(_duplicated(asked, accepted, facts)),
        "mislabelled": list(_mislabelled(facts)),
        "stuck": [job.id for job in facts.jobs.values() if job.status not in ENDED],
        "not recovered": [str(entry.about["number"]) for entry in entries if entry.event == "not_recovered"],
        "refused": [f"{e.about['key']}: {e.about['body']}" for e in entries if e.event == "refused"],
        "server errors": [f"{e.about['path']}: {e.about['body']}" for e in entries if e.event == "server_error"],
        "failed without a cause": list(_unexplained(facts.jobs.values(), entries)),
        "cancelled without a wish": list(_unwished(facts)),
        "orphan processes": list(facts.processes),
        "files without rows": [*facts.nobodys, *facts.left_over],
        "rows without files": sorted(named - facts.files.keys()),
        "bad stops": [
            str(entry.about["code"]) for entry in entries if entry.event == "stopped" and entry.about["code"]
        ],
    }
    return verdict


def _ids(entry: Entry) -> list[str]:
    ids: list[str] = entry.about["ids"]
    return ids


def _duplicated(asked: dict[str, Entry], accepted: dict[str, Entry], facts: Facts) -> Iterable[str]:
    """Rows beyond those that were promised: for a key that was asked again, or for nobody."""
    promised = {one for entry in accepted.values() for one in _ids(entry)}
    unanswered = [key for key in asked if key not in accepted]
    for subject in facts.subjects.values():
        if subject.id not in promised and not any(subject.name.endswith(key) for key in unanswered):
            yield f"{subject.kind} {subject.id}: {subject.name}"
    jobs = Counter(subject.job_id for subject in facts.subjects.values())
    yield from (f"job {job_id} is for {count} rows" for job_id, count in jobs.items() if count > 1)
    superseded = {job.retry_of for job in facts.jobs.values()}
    yield from (f"job {job} is for no row" for job in facts.jobs.keys() - jobs.keys() - superseded)
    models = Counter(model.session_id for model in facts.models if model.session_id)
    yield from (f"training {one} made {count} LoRAs" for one, count in models.items() if count > 1)


def _mislabelled(facts: Facts) -> Iterable[str]:
    """Rows whose state and whose file do not say the same."""
    loras = {model.session_id: model for model in facts.models}
    for subject in facts.subjects.values():
        job = facts.jobs.get(subject.job_id)
        if job is not None and subject.status != job.status and job.status in ENDED:
            yield f"{subject.kind} {subject.id} is {subject.status}, its job {job.status}"
        problem = _picture_problem(subject, facts) if subject.kind == "image" else _training_problem(subject, loras)
        if problem:
            yield f"{subject.kind} {subject.id} is {subject.status}: {problem}"
    for row in (*facts.models, *facts.dataset_images):
        if row.key in facts.files and (problem := _file_problem(facts.files[row.key], row.sha256)):
            yield f"{row.key}: {problem}"


def _picture_problem(subject: SubjectFact, facts: Facts) -> str:
    if subject.status != "completed":
        return f"has a file, {subject.key}" if subject.key else ""
    file = facts.files.get(subject.key or "")
    if file is None:
        return "there is no file"
    if problem := _file_problem(file, subject.sha256):
        return problem
    return "" if subject.name in file.prompt and subject.seed == file.seed else "its file is another's picture"


def _training_problem(subject: SubjectFact, loras: dict[str | None, NamedFile]) -> str:
    if subject.status == "completed":
        return "" if subject.id in loras else "there is no LoRA"
    return "there is a LoRA" if subject.id in loras else ""


def _file_problem(file: FileFact, sha256: str | None) -> str:
    if file.sha256 != sha256:
        return "its file has another hash"
    return "" if file.whole else "its file is damaged"


def _unexplained(jobs: Iterable[JobFact], entries: Sequence[Entry]) -> Iterable[str]:
    """Failed jobs that no fault of this campaign explains."""
    faults = [(entry.about["kind"], entry.time, entry.about["over"]) for entry in entries if entry.event == "fault"]
    for job in jobs:
        if job.status != "failed":
            continue
        code, finished = job.error_code or "", job.finished or job.created
        kinds = AT_ONCE.get(code, ATTEMPT_KILLERS if code in IN_EVERY_ATTEMPT else ())
        hits = sum(
            1
            for kind, at, over in faults
            if kind in kinds and at <= finished and max(at, over) >= job.created - SLACK_SECONDS
        )
        if hits < (1 if code in AT_ONCE else job.attempt):
            yield f"{job.kind} {job.id}: {code} in attempt {job.attempt}, after {hits} faults that could be the cause"


def _unwished(facts: Facts) -> Iterable[str]:
    return (job.id for job in facts.jobs.values() if job.status == "cancelled" and not job.cancel_asked)
