"""`GET /api/training/{id}/log`: what the trainer printed, by ranges of bytes."""

from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import Response

from api.routes.deps import IdPath, ResourcesDep, SessionDep
from api.routes.problems import responses
from api.services import training_logs
from api.services.training_logs import LogStream

router = APIRouter(prefix="/api/training", tags=["training"])

MOST_BYTES = 1024 * 1024
TAIL_BYTES = 64 * 1024
LARGEST_OFFSET = 2**53 - 1
_NUMBER: dict[str, Any] = {"schema": {"type": "integer"}}
HEADERS: dict[str, Any] = {
    "Masuka-Log-Offset": {"description": "Of the first byte of the answer.", **_NUMBER},
    "Masuka-Log-Next": {"description": "`offset` of the next request.", **_NUMBER},
    "Masuka-Log-Size": {"description": "Bytes there are by now.", **_NUMBER},
    "Masuka-Log-Source": {
        "description": "`live`: of the trainer's own file; `stored`: complete.",
        "schema": {"type": "string", "enum": ["live", "stored"]},
    },
}
EXAMPLE = "[INFO] Training is starting at step 0\n"


@router.get(
    "/{session_id}/log",
    response_class=Response,
    responses={
        **responses(404, 409, 422, 503),
        200: {"content": {"text/plain": {"example": EXAMPLE}}, "headers": HEADERS},
    },
)
async def get_training_log(
    session: SessionDep,
    resources: ResourcesDep,
    session_id: IdPath,
    offset: Annotated[
        int | None, Query(ge=0, le=LARGEST_OFFSET, description="First byte; left out: the end of the log.")
    ] = None,
    limit: Annotated[int, Query(ge=16, le=MOST_BYTES, description="Bytes at most.")] = TAIL_BYTES,
    stream: Annotated[LogStream, Query(description="`stderr` has the progress bars.")] = LogStream.STDOUT,
) -> Response:
    """Of the newest run, while it runs and when it is over. To follow it, ask again from `Masuka-Log-Next` on."""
    part = await training_logs.read(
        session, resources.storage, resources.settings, session_id, stream, offset=offset, limit=limit
    )
    headers = {
        "Masuka-Log-Offset": str(part.offset),
        "Masuka-Log-Next": str(part.next),
        "Masuka-Log-Size": str(part.size),
        "Masuka-Log-Source": "live" if part.live else "stored",
        "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff",
    }
    return Response(part.data, media_type="text/plain; charset=utf-8", headers=headers)
