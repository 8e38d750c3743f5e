"""Which trainers can be asked to save or to draw."""

import pytest

from api.domain.trainer_version import takes_wishes


@pytest.mark.parametrize(
    ("version", "can"),
    [
        ("3.1.6", False),
        ("4.7.9", False),
        ("4.8", True),
        ("4.8.0", True),
        ("4.10.1", True),
        ("5.0.0", True),
        ("?", False),
    ],
)
def test_only_from_48_on(version: str, can: bool) -> None:
    assert takes_wishes(version) is can
