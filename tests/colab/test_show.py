"""What a cell shows, where there is no IPython: lines of text."""

import pytest

from api.colab.errors import NotebookError
from api.colab.show import Checklist, Live, linked
from api.colab.watching import clock, fraction, said

SNAPSHOT = {
    "status": "training",
    "message": "",
    "stage": "training",
    "step": 500,
    "total_steps": 2000,
    "loss": 0.41,
    "eta_seconds": 3725.4,
}


def test_a_checklist_says_what_is_done_what_runs_and_what_comes(capsys: pytest.CaptureFixture[str]) -> None:
    checklist = Checklist.of("Keys", "Machine", "State")
    checklist.done("Keys", "none")
    checklist.tell("Machine", "asking")
    assert checklist.render() == "✓ Keys     none\n… Machine  asking\n· State"
    checklist.failed()
    assert capsys.readouterr().out.endswith("✓ Keys     none\n✗ Machine  asking\n· State\n")


def test_what_has_not_changed_is_not_shown_again(capsys: pytest.CaptureFixture[str]) -> None:
    live = Live()
    for text in ("one", "one", "two"):
        live.text(text)
    assert capsys.readouterr().out == "one\ntwo\n"


def test_addresses_become_links_and_everything_else_is_no_html() -> None:
    assert linked('a <b> https://x.example/?a=1&b="2"\n') == (
        'a &lt;b&gt; <a href="https://x.example/?a=1&amp;b=&quot;2&quot;" target="_blank" rel="noopener">'
        "https://x.example/?a=1&amp;b=&quot;2&quot;</a>\n"
    )


def test_progress_is_one_line_and_a_bar() -> None:
    assert said("Training me", SNAPSHOT) == "Training me  training  500/2000  loss 0.4100  1:02:05 left"
    assert fraction(SNAPSHOT) == 0.25
    waits = {
        **SNAPSHOT,
        "status": "pending",
        "message": "next",
        "step": 0,
        "total_steps": 0,
        "loss": None,
        "eta_seconds": None,
    }
    assert (said("Training me", waits), fraction(waits)) == ("Training me  next", 0.0)
    assert fraction({**waits, "status": "completed"}) == 1.0
    assert clock(59.6) == "0:01:00"


def test_an_error_is_a_sentence_and_what_to_do_in_a_notebook() -> None:
    error = NotebookError("It is not there.", code="not_there", hint="Get it.")
    assert error._render_traceback_() == ["It is not there. [not_there]", "Get it."]
    assert NotebookError("It is not there.")._render_traceback_() == ["It is not there. [notebook_failed]"]
