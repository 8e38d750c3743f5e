"""What goes wrong in a cell, shown as a sentence instead of a traceback."""

from api.errors import MasukaError


class NotebookError(MasukaError):
    """A cell could not do what was asked."""

    default_code = "notebook_failed"

    def _render_traceback_(self) -> list[str]:
        """What IPython shows instead of the traceback."""
        return [f"{self.detail} [{self.code}]", *([self.hint] if self.hint else [])]


class ServiceProblem(NotebookError):
    """The service answered with a problem; `code`, detail and hint are its own."""


class ServiceSilent(NotebookError):
    """The service does not answer."""

    default_code = "api_unreachable"
