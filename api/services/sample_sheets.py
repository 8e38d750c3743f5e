"""The samples of a training in one picture: how each prompt changes from training checkpoint to training checkpoint."""

import asyncio
from collections.abc import Sequence
from io import BytesIO
from uuid import UUID

from PIL import Image
from sqlalchemy.ext.asyncio import AsyncSession

from api.contact_sheet import contact_sheet, lacking
from api.errors import ConflictError
from api.services import contact_sheets, samples
from api.services.samples import Shown
from api.settings import Settings
from api.storage import Storage

MOST_STEPS = 12


async def contents(session: AsyncSession, session_id: UUID) -> list[Shown]:
    """What is on the sheet, by step and prompt: of many steps an even choice with the first and the last.

    Raises ConflictError `no_samples`.
    """
    found = await samples.of_session(session, session_id)
    if not found:
        raise ConflictError(
            "There are no samples of this session.",
            code="no_samples",
            value=str(session_id),
            hint="They come with each training checkpoint of a session that has `sample_prompts`.",
        )
    steps = even_choice(sorted({each.sample.step for each in found}), MOST_STEPS)
    return [each for each in found if each.sample.step in steps]


def even_choice(steps: Sequence[int], most: int) -> list[int]:
    """`most` (2 or more) of them at equal distances, from the first to the last."""
    if len(steps) <= most:
        return list(steps)
    return [steps[round(number * (len(steps) - 1) / (most - 1))] for number in range(most)]


async def draw(
    storage: Storage, settings: Settings, shown: Sequence[Shown], side: int, heading: str, *, transposed: bool = False
) -> bytes:
    """A PNG with a row for each prompt and a column for each step, or the other way round. Raises StorageError."""
    pictures = await contact_sheets.tiles(storage, settings, [each.asset for each in shown], side)
    placed = {(each.sample.position, each.sample.step): picture for each, picture in zip(shown, pictures, strict=True)}
    prompts = {each.sample.position: each.asset.prompt for each in shown}
    return await asyncio.to_thread(_sheet, placed, prompts, side, heading, transposed)


def _sheet(
    placed: dict[tuple[int, int], Image.Image], prompts: dict[int, str], side: int, heading: str, transposed: bool
) -> bytes:
    positions, steps = sorted(prompts), sorted({step for _, step in placed})
    blank = lacking(side, "not there")
    rows = [[placed.get((position, step), blank) for step in steps] for position in positions]
    across, down = [f"step {step}" for step in steps], [prompts[position] for position in positions]
    if transposed:
        rows, across, down = [list(row) for row in zip(*rows, strict=True)], down, across
    buffer = BytesIO()
    contact_sheet(rows, across, down, heading).save(buffer, "PNG")
    return buffer.getvalue()
