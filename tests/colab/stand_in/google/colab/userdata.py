"""Colab's Secrets."""

from google.colab import told  # type: ignore[import-not-found]


class NotebookAccessError(Exception):
    """The secret is there, and not open to this notebook."""


class SecretNotFoundError(Exception):
    """There is none of this name."""


def get(key: str) -> str:
    found = told()
    if key in found.get("locked", ()):
        raise NotebookAccessError(key)
    if key not in found.get("secrets", {}):
        raise SecretNotFoundError(key)
    return str(found["secrets"][key])
