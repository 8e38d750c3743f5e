"""The user's Drive."""

from google.colab import note  # type: ignore[import-not-found]


def mount(mountpoint: str) -> None:
    note(f"mounted {mountpoint}")
