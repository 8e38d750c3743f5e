"""What a picture costs above the bare ComfyUI: the same graph, one after the other, in turns."""

from pathlib import Path

from tests.bench.figures import Result, Series, compared, milliseconds
from tests.bench.stand import SMALL, service
from tests.bench.turns import in_turns

COUNT, QUICK_COUNT = 200, 4


async def run(folder: Path, quick: bool) -> Result:
    count = QUICK_COUNT if quick else COUNT
    async with service(folder) as stand:
        theirs, ours = await in_turns(stand, count)
    bare, masuka = Series("raw", "ms", milliseconds(theirs)), Series("masuka", "ms", milliseconds(ours))
    return Result((bare, masuka), compared("above raw", masuka, bare, p50=10, p95=25), {**SMALL, "pictures": count})
