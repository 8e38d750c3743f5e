"""A small campaign that went well, for the tests of those who judge and report."""

from dataclasses import replace

from tests.faults.campaign.facts import Facts, FileFact, JobFact, NamedFile, SubjectFact
from tests.faults.campaign.ledger import Entry

NOW = 1_000_000.0
PICTURE = FileFact("aa", whole=True, prompt="a red circle, picture-1", seed=7)


def entry(event: str, at: float = 0.0, /, **about: object) -> Entry:
    """`at` in seconds from the campaign's beginning."""
    return Entry(NOW + at, event, about)


def job(name: str, kind: str = "image", status: str = "completed", **changes: object) -> JobFact:
    fact = JobFact(name, kind, status, 1, 3, None, cancel_asked=False, created=NOW, finished=NOW + 60)
    return replace(fact, **changes)  # type: ignore[arg-type]


def fault(kind: str, seconds: float) -> Entry:
    return entry("fault", seconds, number=1, kind=kind, at=NOW + seconds, over=NOW + seconds)


ENTRIES = [
    entry("asked", key="picture-1", kind="image", body={}),
    entry("accepted", key="picture-1", kind="image", ids=["p1"]),
    entry("asked", key="training-1", kind="training", body={}),
    entry("accepted", key="training-1", kind="training", ids=["t1"]),
    entry("asked", key="dataset", kind="dataset", body=None),
    entry("accepted", key="dataset", kind="dataset", ids=["d1"]),
    fault("worker-gpu kill", 10),
    entry("stopped", 100, code=0),
]
FACTS = Facts(
    jobs={"j1": job("j1"), "j2": job("j2", "training")},
    subjects={
        "p1": SubjectFact("p1", "image", "j1", "completed", "a red circle, picture-1", 7, "assets/p1.png", "aa"),
        "t1": SubjectFact("t1", "training", "j2", "completed", "training-1"),
    },
    models=(NamedFile("models/t-bb.safetensors", "bb", "t1"),),
    dataset_images=(NamedFile("datasets/d1/0.png", "cc"),),
    files={
        "assets/p1.png": PICTURE,
        "models/t-bb.safetensors": FileFact("bb", whole=True),
        "datasets/d1/0.png": FileFact("cc", whole=True),
    },
)


def with_job(name: str, **changes: object) -> Facts:
    """The facts with another end of this job, and the same of the row it is for."""
    changed = replace(FACTS.jobs[name], **changes)  # type: ignore[arg-type]
    subjects = {
        one: replace(fact, status=changed.status) if fact.job_id == name else fact
        for one, fact in FACTS.subjects.items()
    }
    return replace(FACTS, jobs={**FACTS.jobs, name: changed}, subjects=subjects)
