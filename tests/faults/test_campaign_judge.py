"""A judge that cannot condemn is worth nothing: every kind of wrong, put into a sound campaign, is found."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.faults.campaign.facts import Facts, FileFact
from tests.faults.campaign.judge import Verdict, judge
from tests.faults.campaign.ledger import Entry
from tests.faults.campaign_samples import ENTRIES, FACTS, PICTURE, entry, fault, job, with_job


def with_subject(name: str, **changes: object) -> Facts:
    changed = replace(FACTS.subjects[name], **changes)  # type: ignore[arg-type]
    return replace(FACTS, subjects={**FACTS.subjects, name: changed})


def with_file(key: str, file: FileFact | None) -> Facts:
    files = {name: found for name, found in FACTS.files.items() if name != key}
    return replace(FACTS, files=files if file is None else {**files, key: file})


def without_file(facts: Facts) -> Facts:
    """As a picture that was never made."""
    subject = replace(facts.subjects["p1"], key=None, sha256=None)
    files = {key: file for key, file in facts.files.items() if key != "assets/p1.png"}
    return replace(facts, subjects={**facts.subjects, "p1": subject}, files=files)


def found(verdict: Verdict) -> set[str]:
    return {name for name, wrongs in verdict.wrongs.items() if wrongs}


def test_a_sound_campaign_is_sound() -> None:
    verdict = judge(ENTRIES, FACTS)
    assert found(verdict) == set()
    assert verdict.sound
    assert (verdict.accepted, dict(verdict.statuses)) == (2, {"completed": 2})


WRONG_FACTS: list[tuple[str, Callable[[], Facts]]] = [
    ("lost", lambda: replace(FACTS, subjects={"t1": FACTS.subjects["t1"]}, files={**FACTS.files})),
    ("lost", lambda: replace(FACTS, jobs={"j2": FACTS.jobs["j2"]})),
    ("duplicated", lambda: replace(FACTS, subjects={**FACTS.subjects, "p2": replace(FACTS.subjects["p1"], id="p2")})),
    ("duplicated", lambda: replace(FACTS, jobs={**FACTS.jobs, "j3": job("j3")})),
    ("duplicated", lambda: replace(FACTS, models=FACTS.models * 2)),
    ("mislabelled", lambda: with_subject("p1", status="failed")),
    ("mislabelled", lambda: with_subject("p1", sha256="dd")),
    ("mislabelled", lambda: with_subject("p1", seed=8)),
    ("mislabelled", lambda: with_subject("p1", key=None)),
    ("mislabelled", lambda: with_file("assets/p1.png", replace(PICTURE, whole=False))),
    ("mislabelled", lambda: with_file("assets/p1.png", replace(PICTURE, prompt="a red circle, picture-2"))),
    ("mislabelled", lambda: with_file("assets/p1.png", replace(PICTURE, sha256="dd"))),
    ("mislabelled", lambda: with_job("j1", status="cancelled", cancel_asked=True)),
    ("mislabelled", lambda: with_job("j2", status="cancelled", cancel_asked=True)),
    ("mislabelled", lambda: replace(FACTS, models=())),
    ("mislabelled", lambda: with_file("models/t-bb.safetensors", FileFact("bb", whole=False))),
    ("mislabelled", lambda: with_file("datasets/d1/0.png", FileFact("dd", whole=True))),
    ("stuck", lambda: with_job("j1", status="running", finished=None)),
    ("stuck", lambda: with_job("j1", status="pending", finished=None)),
    ("rows without files", lambda: with_file("assets/p1.png", None)),
    ("rows without files", lambda: with_file("models/t-bb.safetensors", None)),
    ("rows without files", lambda: with_file("datasets/d1/0.png", None)),
    ("files without rows", lambda: replace(FACTS, nobodys=("assets/p9.png",))),
    ("files without rows", lambda: replace(FACTS, left_over=("tmp/a/b.part",))),
    ("orphan processes", lambda: replace(FACTS, processes=("123 python main.py",))),
    ("cancelled without a wish", lambda: with_job("j1", status="cancelled")),
    ("failed without a cause", lambda: without_file(with_job("j1", status="failed", error_code="internal_error"))),
    ("failed without a cause", lambda: without_file(with_job("j1", status="failed", error_code="out_of_memory"))),
    (
        "failed without a cause",
        lambda: without_file(with_job("j1", status="failed", error_code="worker_lost", attempt=3)),
    ),
]


@pytest.mark.parametrize(("name", "make"), WRONG_FACTS)
def test_what_is_wrong_is_found(name: str, make: Callable[[], Facts]) -> None:
    verdict = judge(ENTRIES, make())
    assert name in found(verdict)
    assert not verdict.sound


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("refused", entry("refused", key="picture-2", status=422, body="{}")),
        ("server errors", entry("server_error", path="/api/assets/", status=500, body="")),
        ("not recovered", entry("not_recovered", number=1, kind="api kill", seconds=None)),
        ("bad stops", entry("stopped", code=1)),
        ("lost", entry("accepted", key="picture-2", kind="image", ids=["p2"])),
    ],
)
def test_what_the_ledger_says_is_wrong_is_found(name: str, wrong: Entry) -> None:
    assert found(judge([*ENTRIES, wrong], FACTS)) == {name}


def test_a_row_of_a_request_that_was_never_answered_is_no_duplicate() -> None:
    asked = [*ENTRIES[2:], ENTRIES[0]]
    assert judge(asked, FACTS).sound


def test_a_retried_job_is_for_no_row_any_more() -> None:
    facts = with_subject("p1", job_id="j3")
    jobs = {
        **facts.jobs,
        "j1": job("j1", status="cancelled", cancel_asked=True),
        "j3": job("j3", retry_of="j1"),
    }
    assert judge(ENTRIES, replace(facts, jobs=jobs)).sound


@pytest.mark.parametrize(
    ("code", "attempt", "faults"),
    [
        ("worker_lost", 3, [("worker-gpu kill", 10), ("worker-gpu freeze", 20), ("supervisor kill", 30)]),
        ("out_of_memory", 1, [("gpu-memory exhaust", 10)]),
    ],
)
def test_a_failure_is_explained_by_a_fault_for_every_attempt(
    code: str, attempt: int, faults: list[tuple[str, float]]
) -> None:
    facts = without_file(with_job("j1", status="failed", error_code=code, attempt=attempt))
    entries = [one for one in ENTRIES if one.event != "fault"]
    done = [fault(kind, seconds) for kind, seconds in faults]

    assert judge([*entries, *done], facts).sound
    assert judge([*entries, *done], facts).failed_by_code == {code: 1}
    assert found(judge([*entries, *done[1:]], facts)) == {"failed without a cause"}
    others = [*entries, *(fault("api kill", seconds) for _, seconds in faults)]
    assert found(judge(others, facts)) == {"failed without a cause"}
    later = [*entries, *(fault(kind, seconds + 100) for kind, seconds in faults)]
    assert found(judge(later, facts)) == {"failed without a cause"}
