from api.comfy.log import ChildLog

COMPLAINT = b"lora key not loaded: transformer.nonexistent.lora_A.weight\n"


def test_what_the_child_prints_is_kept(tmp_path):
    path = tmp_path / "logs" / "comfyui.log"
    log = ChildLog(path)
    log.feed(b"got prompt\n  0%|")
    log.feed(b"   |\r 50%|##  |\rdone\n")
    log.close()
    assert path.read_bytes() == b"got prompt\n  0%|   |\r 50%|##  |\rdone\n"
    assert log.tail(10).splitlines() == ["got prompt", "0%|   |", "50%|##  |", "done"]
    assert log.tail(1) == "done"


def test_complaints_are_those_after_a_position(tmp_path):
    log = ChildLog(tmp_path / "log")
    log.feed(COMPLAINT)
    position = log.position
    assert log.lora_complaints(position) == []
    log.feed(b"got prompt\n")
    log.feed(COMPLAINT[:20])
    assert log.lora_complaints(position) == []
    log.feed(COMPLAINT[20:] + b"ERROR lora diffusion_model.x shape '[4]' is invalid\n")
    assert log.lora_complaints(position) == [
        "lora key not loaded: transformer.nonexistent.lora_A.weight",
        "ERROR lora diffusion_model.x shape '[4]' is invalid",
    ]
    log.close()


def test_complaints_about_the_next_prompt_are_not_this_ones(tmp_path):
    log = ChildLog(tmp_path / "log")
    log.feed(b"Prompt executed in 0.10 seconds\n")
    first = log.position
    log.feed(COMPLAINT + b"Prompt executed in 0.20 seconds\n")
    second = log.position
    log.feed(b"ERROR lora diffusion_model.x shape '[4]' is invalid\n")
    assert log.lora_complaints(first) == [COMPLAINT.decode().strip()]
    assert log.lora_complaints(second) == ["ERROR lora diffusion_model.x shape '[4]' is invalid"]
    log.close()


def test_a_full_log_is_rotated_and_positions_stay_valid(tmp_path):
    path = tmp_path / "log"
    log = ChildLog(path, max_bytes=100)
    log.feed(b"x" * 150 + b"\n")
    position = log.position
    log.feed(COMPLAINT)
    log.close()
    assert path.read_bytes() == COMPLAINT
    assert (tmp_path / "log.1").stat().st_size == 151
    assert len(log.lora_complaints(position)) == 1


def test_a_log_goes_on_where_the_last_one_ended(tmp_path):
    for _ in range(2):
        log = ChildLog(tmp_path / "log")
        log.feed(b"started\n")
        log.close()
    assert (tmp_path / "log").read_bytes() == b"started\nstarted\n"


def test_output_without_line_ends_does_not_pile_up(tmp_path):
    log = ChildLog(tmp_path / "log")
    for _ in range(3):
        log.feed(b"x" * 50_000)
    assert log.position == 1
    log.close()
    assert log.position == 2
