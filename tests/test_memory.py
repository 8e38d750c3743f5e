"""What the kernel says is free, on a machine and in a container with less."""

from pathlib import Path

from api.memory import available_bytes


def test_a_container_may_have_less_than_its_machine(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("MemTotal:       2000 kB\nMemAvailable:   1000 kB\n")
    (tmp_path / "memory.current").write_text("300000\n")
    (tmp_path / "memory.stat").write_text("anon 1\ninactive_file 50000\n")
    limits = {"max": 1_024_000, "9000000": 1_024_000, "400000": 150_000}

    for limit, left in limits.items():
        (tmp_path / "memory.max").write_text(f"{limit}\n")
        assert available_bytes(tmp_path, tmp_path) == left
    (tmp_path / "memory.max").unlink()
    assert available_bytes(tmp_path, tmp_path) == 1_024_000
