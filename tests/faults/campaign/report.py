"""The figures of a campaign, for people and for programs."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from tests.faults.campaign.judge import Verdict
from tests.faults.campaign.ledger import Entry


def report(entries: Sequence[Entry], verdict: Verdict) -> dict[str, Any]:
    """Everything, as JSON wants it; seconds with one decimal."""
    faults = [entry for entry in entries if entry.event == "fault"]
    recoveries: dict[str, list[float]] = {}
    for entry in entries:
        if entry.event == "recovered":
            recoveries.setdefault(entry.about["kind"], []).append(entry.about["seconds"])
    everything = [seconds for found in recoveries.values() for seconds in found]
    return {
        "sound": verdict.sound,
        "faults": len(faults),
        "faults_by_kind": dict(sorted(Counter(entry.about["kind"] for entry in faults).items())),
        "skipped": len([entry for entry in entries if entry.event == "skipped"]),
        "accepted": verdict.accepted,
        "statuses": dict(verdict.statuses),
        "failed_by_code": dict(verdict.failed_by_code),
        "wrong": {name: len(found) for name, found in verdict.wrongs.items()},
        "wrongs": {name: found for name, found in verdict.wrongs.items() if found},
        "recovery_seconds": quantiles(everything),
        "recovery_seconds_by_kind": {kind: quantiles(found) for kind, found in sorted(recoveries.items())},
    }


def quantiles(values: Sequence[float]) -> dict[str, float]:
    """p50, p95 and the largest; empty for no values."""
    if not values:
        return {}
    ordered = sorted(values)
    last = len(ordered) - 1
    return {
        "p50": round(ordered[round(0.5 * last)], 1),
        "p95": round(ordered[round(0.95 * last)], 1),
        "max": round(ordered[last], 1),
    }


def text(found: dict[str, Any]) -> str:
    """The same as lines for a terminal."""
    by_kind = found["recovery_seconds_by_kind"]
    lines = [f"{found['faults']} faults ({found['skipped']} found no target); recovery in seconds, p50 / p95 / max:"]
    for kind, count in found["faults_by_kind"].items():
        lines.append(f"  {kind:24}{count:5}   {_times(by_kind.get(kind, {}))}")
    lines.append(f"  {'all':24}{found['faults']:5}   {_times(found['recovery_seconds'])}")
    lines.append(f"{found['accepted']} jobs accepted: {_counts(found['statuses'])}")
    if found["failed_by_code"]:
        lines.append(f"failed, each with faults that explain it: {_counts(found['failed_by_code'])}")
    for name, count in found["wrong"].items():
        lines.append(f"  {name:26}{count:4}")
        lines += [f"      {wrong}" for wrong in found["wrongs"].get(name, [])[:20]]
    lines.append("Nothing is lost, nothing is stuck." if found["sound"] else "This is WRONG.")
    return "\n".join(lines)


def _times(quantile: dict[str, float]) -> str:
    return " / ".join(f"{value:5.1f}" for value in quantile.values())


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))
