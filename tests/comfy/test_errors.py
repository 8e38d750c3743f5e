import pytest

from api.comfy.errors import NodeProblem, failure_error, rejection
from api.comfy.history import NodeFailure, parse_history
from tests.comfy.samples import history, sample

REFUSED = sample("prompt_validation_failures")


@pytest.mark.parametrize(
    ("name", "code", "said"),
    [
        ("missing_lora_file", "lora_missing", "LoraLoader (node 20), lora_name: 'not_there.safetensors' is not there"),
        ("missing_unet_file", "model_missing", "UNETLoader (node 1), unet_name: 'nope.safetensors' is not there"),
        ("bad_combo", "value_invalid", "KSampler (node 8), sampler_name: 'zzz' is not there"),
        ("bad_value_below_min", "value_invalid", "Value 0 smaller than min of 1, steps"),
        ("bad_value_above_max", "value_invalid", "bigger than max of 18446744073709551615, seed"),
        ("bad_value_not_int", "value_invalid", "Failed to convert an input value to a INT value"),
        ("missing_input", "workflow_invalid", "KSampler (node 8), cfg: Required input is missing, cfg"),
        ("type_mismatch_link", "workflow_invalid", "received_type(VAE) mismatch input_type(MODEL)"),
        ("link_to_missing_node", "workflow_invalid", "Exception when validating inner node"),
        ("unknown_node_class", "workflow_invalid", "Cannot execute because node NoSuchNode does not exist."),
        ("no_outputs", "workflow_invalid", "Prompt has no outputs"),
        ("partial_one_output_invalid", "workflow_invalid", "VAEDecode (node 31), vae: Required input is missing"),
    ],
)
def test_a_refusal_says_which_node_and_value_and_what_kind_of_mistake(name, code, said):
    error = rejection(REFUSED[name]["body"])
    assert error.code == code
    assert said in error.detail
    assert error.hint


def test_a_refused_value_is_in_the_error_but_the_list_of_good_ones_is_not():
    error = rejection(REFUSED["missing_lora_file"]["body"])
    assert error.value == "not_there.safetensors"
    assert "wrong_shape.safetensors" not in str(error)
    assert error.problems == (
        NodeProblem(
            "20",
            "LoraLoader",
            "lora_name",
            "value_not_in_list",
            "'not_there.safetensors' is not there",
            "not_there.safetensors",
        ),
    )


def test_a_missing_input_picture_is_a_wrong_value():
    error = rejection(sample("prompt_missing_image")["body"])
    assert error.code == "value_invalid"
    assert "nope.png" in error.detail


def test_a_refusal_without_a_word_is_still_an_error():
    assert rejection({}).detail == "ComfyUI refused the workflow."


def test_a_refusal_that_repeats_itself_is_told_once():
    assert rejection(REFUSED["no_prompt_key"]["body"]).detail == "No prompt provided"


@pytest.mark.parametrize(
    ("node_type", "code"), [("LoraLoaderModelOnly", "lora_unreadable"), ("UNETLoader", "model_unreadable")]
)
def test_a_file_that_is_no_safetensors_is_told_by_its_loader(node_type, code):
    error = failure_error(NodeFailure("20", node_type, "safetensors._safetensors_rust.SafetensorError", "bad header"))
    assert error.code == code
    assert "bad header" in error.detail


@pytest.mark.parametrize(
    "failure",
    [
        NodeFailure("8", "KSampler", "torch.OutOfMemoryError", "Allocation on device"),
        NodeFailure("8", "KSampler", "RuntimeError", sample("ws_execution_error_cpu_oom")["data"]["exception_message"]),
    ],
)
def test_running_out_of_memory_is_recognised_on_gpu_and_cpu(failure):
    error = failure_error(failure)
    assert error.code == "out_of_memory"
    assert error.hint


def test_the_recorded_cuda_failure_is_out_of_memory():
    outcome = parse_history(*history("history_oom"))
    assert outcome is not None
    assert outcome.failure is not None
    assert failure_error(outcome.failure).code == "out_of_memory"


def test_a_full_disk_is_recognised():
    assert (
        failure_error(NodeFailure("9", "SaveImage", "OSError", "[Errno 28] No space left on device")).code
        == "disk_full"
    )


def test_any_other_exception_is_told_as_it_is():
    error = failure_error(NodeFailure("50", "TestFault", "ValueError", "boom"))
    assert (error.code, error.detail) == ("node_failed", "TestFault (node 50) failed: boom (ValueError)")


def test_a_failure_that_names_no_node_is_still_told():
    assert failure_error(NodeFailure("", "", "", "?")).detail.startswith("Node (node ?) failed")
