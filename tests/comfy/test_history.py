import pytest

from api.comfy.history import NodeFailure, Outcome, OutcomeStatus, Output, Queue, parse_history, parse_queue
from tests.comfy.samples import history, sample


def outcome_of(name: str) -> Outcome:
    outcome = parse_history(*history(name))
    assert outcome is not None
    return outcome


def test_a_success_lists_the_files_and_the_nodes_that_did_not_run():
    assert outcome_of("history_success") == Outcome(
        OutcomeStatus.SUCCESS,
        (Output("10", "images", "flux_00127_.png", "t", animated=False),),
        frozenset({"1", "2", "3", "7"}),
    )


def test_a_batch_has_one_output_per_picture():
    assert len(outcome_of("history_batch4").outputs) == 4


@pytest.mark.parametrize("name", ["history_video_SaveVideo", "history_video_SaveAnimatedWEBP"])
def test_a_video_is_an_animated_output(name):
    assert [output.animated for output in outcome_of(name).outputs] == [True]


def test_only_saved_files_are_outputs():
    body, prompt_id = history("history_success")
    body[prompt_id]["outputs"] = {
        "1": {"images": [{"filename": "preview.png", "subfolder": "", "type": "temp"}]},
        "2": {"gifs": [{"filename": "clip.mp4", "type": "output"}], "text": ["a cat"], "count": 3},
    }
    outcome = parse_history(body, prompt_id)
    assert outcome is not None
    assert outcome.outputs == (Output("2", "gifs", "clip.mp4", "", animated=False),)


def test_a_failure_carries_the_node_and_its_exception():
    outcome = outcome_of("history_error")
    assert outcome.status is OutcomeStatus.ERROR
    assert outcome.failure == NodeFailure(
        "20",
        "LoraLoader",
        "safetensors._safetensors_rust.SafetensorError",
        "Error while deserializing header: invalid JSON in header: expected ident at line 1 column 2",
    )


def test_an_interrupted_prompt_is_no_failure_although_comfyui_calls_it_error():
    body, prompt_id = history("history_interrupted")
    assert body[prompt_id]["status"]["status_str"] == "error"
    outcome = parse_history(body, prompt_id)
    assert outcome is not None
    assert (outcome.status, outcome.failure) == (OutcomeStatus.INTERRUPTED, None)


@pytest.mark.parametrize("status", [None, {}, {"status_str": "error", "messages": []}])
def test_an_end_without_a_reason_is_a_failure_that_says_so(status):
    outcome = parse_history({"p": {"outputs": {}, "status": status}}, "p")
    assert outcome is not None
    assert outcome.status is OutcomeStatus.ERROR
    assert outcome.failure == NodeFailure("", "", "", "ComfyUI did not say why.")


def test_an_empty_history_says_nothing():
    assert parse_history({}, "p") is None


def test_the_queue_names_what_runs_and_what_waits_in_order():
    queue = parse_queue(sample("queue_running_and_pending"))
    assert queue.running == ("5145ba8a-6a1e-4dd5-80f6-36629411db41",)
    assert queue.pending[0] == "ba2014c8-4a93-4ccf-85fc-38329ec89800"
    assert queue.running[0] in queue
    assert queue.pending[-1] in queue
    assert "another" not in queue


def test_pending_prompts_are_in_the_order_of_their_numbers():
    items = [[number, name, {}, {}, []] for number, name in ((7, "last"), (-3, "first"), (5, "middle"))]
    assert parse_queue({"queue_running": [], "queue_pending": items}) == Queue((), ("first", "middle", "last"))
