"""The parts of the campaign that decide: what is done, when the service was at work again, what is reported."""

from contextlib import closing
from itertools import islice
from pathlib import Path

import pytest

from tests.faults.campaign.judge import judge
from tests.faults.campaign.ledger import Ledger
from tests.faults.campaign.plan import LONGEST_SECONDS, WEIGHTS, Action, Kind, Target, kinds_with, plan
from tests.faults.campaign.recovery import Sample, recovered_at
from tests.faults.campaign.report import quantiles, report, text
from tests.faults.campaign_samples import ENTRIES, FACTS, entry, with_job


def picture(time: float, accepted: float, status: str = "completed") -> Sample:
    return Sample(time, "p1", "image", accepted, status, (0, "", 0))


def training(time: float, stand: tuple[int, str, int], status: str = "training") -> Sample:
    return Sample(time, "t1", "training", 0, status, stand)


def test_a_seed_gives_one_plan() -> None:
    first, again, other = (list(islice(plan(seed), 200)) for seed in (1, 1, 2))
    assert first == again != other
    assert [fault.number for fault in first] == list(range(1, 201))


def test_every_kind_comes_once_and_then_by_its_weight() -> None:
    faults = list(islice(plan(3), 4000))
    assert {fault.kind for fault in faults[: len(WEIGHTS)]} == set(WEIGHTS)
    counts = {kind: sum(fault.kind == kind for fault in faults) for kind in WEIGHTS}
    share = len(faults) / sum(WEIGHTS.values())
    assert all(0.6 < counts[kind] / (share * weight) < 1.5 for kind, weight in WEIGHTS.items())


def test_a_trainer_is_hit_only_in_a_training_and_comfyui_never() -> None:
    for fault in islice(plan(4), 1000):
        if fault.kind.target in (Target.TRAINER, Target.RUNNER):
            assert fault.in_training
        if fault.kind.target in (Target.COMFYUI, Target.SOCKET, Target.GPU_MEMORY):
            assert not fault.in_training
        assert 1 <= fault.lasts_seconds <= LONGEST_SECONDS


def test_a_server_that_is_outside_can_be_cut_off_too() -> None:
    own, others = kinds_with({}), kinds_with({Target.REDIS, Target.S3})
    assert own == WEIGHTS
    assert Kind(Target.REDIS, Action.CUT) not in own
    assert {kind.target for kind in others} == {kind.target for kind in own} | {Target.S3}
    for target in (Target.REDIS, Target.S3):
        found = {kind.action for kind in others if kind.target is target}
        assert found == {Action.KILL, Action.FREEZE, Action.CUT}
    assert {fault.kind for fault in islice(plan(5, others), len(others))} == set(others)


@pytest.mark.parametrize(
    ("samples", "at"),
    [
        ([picture(12, accepted=11)], 12),
        ([picture(12, accepted=9)], None),  # it may have been finished before the fault
        ([picture(12, accepted=11, status="failed"), picture(13, accepted=11)], 13),
        ([training(11, (1, "training", 3)), training(14, (1, "training", 3))], None),
        ([training(16, (1, "training", 3)), training(17, (1, "training", 4))], 17),
        ([training(14, (1, "training", 3)), training(16, (1, "training", 4))], None),  # seen late, not done late
        ([training(16, (1, "training", 3)), training(17, (2, "waiting", 3), "pending")], None),
        ([training(16, (1, "training", 3)), training(19, (2, "starting", 0))], 19),
        ([training(16, (1, "storing", 9)), training(18, (1, "completed", 9), "completed")], 18),
    ],
)
def test_the_service_has_recovered_when_new_work_is_done(samples: list[Sample], at: float | None) -> None:
    assert recovered_at(samples, since=10, over=15) == at


def test_what_is_heard_of_a_trainer_after_its_death_is_no_recovery() -> None:
    before, late = training(9, (1, "training", 3)), training(12, (1, "training", 4))
    waiting, again = training(13, (2, "waiting", 0), "pending"), training(19, (2, "starting", 0))
    assert recovered_at([before, training(11, (1, "training", 3)), late], 10, 10) == 12
    assert recovered_at([before, late, waiting], 10, 10, new_attempt=True) is None
    assert recovered_at([before, late, waiting, again], 10, 10, new_attempt=True) == 19
    assert recovered_at([before, picture(15, accepted=11), again], 10, 10, new_attempt=True) == 15


def test_a_ledger_goes_on_where_it_was_although_its_last_line_is_torn(tmp_path: Path) -> None:
    path = tmp_path / "new" / "ledger.jsonl"
    with closing(Ledger(path)) as first:
        kept = first.note("asked", key="a", body={"prompt": "ä"})
    with path.open("a") as file:
        file.write('{"time": 1, "eve')

    with closing(Ledger(path)) as again:
        more = again.note("accepted", key="a", ids=["1"])

    with closing(Ledger(path)) as last:
        assert last.entries == [kept, more]
        assert last.of("accepted") == [more]


def test_quantiles_are_values_that_occurred() -> None:
    assert quantiles([]) == {}
    assert quantiles([3.0]) == {"p50": 3.0, "p95": 3.0, "max": 3.0}
    assert quantiles([float(n) for n in range(101)]) == {"p50": 50.0, "p95": 95.0, "max": 100.0}


def test_a_report_counts_faults_recoveries_and_wrongs() -> None:
    entries = [
        *ENTRIES,
        entry("recovered", number=1, kind="worker-gpu kill", seconds=4.25),
        entry("skipped", number=2, kind="trainer kill"),
    ]
    good = report(entries, judge(entries, FACTS))
    assert good["faults_by_kind"] == {"worker-gpu kill": 1}
    assert good["recovery_seconds"] == {"p50": 4.2, "p95": 4.2, "max": 4.2}
    assert (good["sound"], good["accepted"], good["skipped"], set(good["wrong"].values())) == (True, 2, 1, {0})
    assert "Nothing is lost, nothing is stuck." in text(good)

    bad = report(entries, judge(entries, with_job("j1", status="running", finished=None)))
    assert (bad["sound"], bad["wrongs"]["stuck"]) == (False, ["j1"])
    assert "WRONG" in text(bad)
    assert "j1" in text(bad)
