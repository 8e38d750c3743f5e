"""What the cells of the notebook call, once the first one has set everything up."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from api.colab import debugging, drawing, gallery, training
from api.colab.address import Address
from api.colab.client import Api
from api.colab.programs import Programs

Captioner = Literal["", "florence-2", "joycaption"]


class Notebook:
    """Talks to the service on this machine, so that nothing of it counts as traffic of a tunnel."""

    def __init__(self, api: Api, programs: Programs, data_dir: Path, address: Address, base_model: str) -> None:
        self.api = api
        self.address = address
        self.base_model = base_model
        self._programs = programs
        self._data_dir = data_dir

    @property
    def api_url(self) -> str:
        """For programs: Colab's proxy lets in the user's browser alone."""
        return self.address.url if self.address.by == "ngrok" else self.api.url

    @property
    def token(self) -> str:
        return self.api.token

    def __repr__(self) -> str:
        return f"MASUKA at {self.address.url}"

    def train(
        self, name: str, source: str = "", *, trigger_word: str = "", captioner: Captioner = "", **wishes: Any
    ) -> dict[str, Any]:
        """Train a LoRA of pictures, or go on watching it; the session. `wishes`: of `POST /api/training/flux`.

        An interrupt ends the watching alone. The same name with the same pictures and wishes is the same training.
        """
        uploads = self._data_dir / "notebook" / "uploads"
        plan = training.Plan(name, source, trigger_word, captioner, training.wishes_of(self.base_model, wishes))
        return training.train(self.api, self._programs, uploads, plan)

    def cancel(self, name: str) -> None:
        """Stop the training of this name; run its cell again to have it go on."""
        training.cancel(self.api, name)

    def generate(self, prompt: str, model: str = "newest", **wishes: Any) -> list[str]:
        """Draw and show; the ids of the pictures. `model`: the name or id of a LoRA, `newest`, or `none`."""
        return drawing.generate(self.api, prompt, model, drawing.wishes_of(self.base_model, wishes))

    def pictures(self, limit: int = 12) -> list[str]:
        """Show the newest ones; their ids, newest first."""
        return gallery.show_newest(self.api, limit)

    def download(self, pictures: str | Sequence[str]) -> Path:
        """Those with these ids (with commas, or `all`) as files: one picture, or a zip of many."""
        return gallery.download(self.api, gallery.ids_of(self.api, pictures), self._data_dir / "notebook" / "downloads")

    def delete(self, pictures: str | Sequence[str]) -> None:
        """Put aside those with these ids; they can be restored for some days."""
        gallery.delete(self.api, gallery.ids_of(self.api, pictures))

    def debug(self, *, report: bool = False) -> Path | None:
        """Everything that tells what is wrong; with `report` as a zip without secrets, too."""
        return debugging.debug(self.api, self._programs, self._data_dir, report=report)
