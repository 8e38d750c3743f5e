"""`GET /api/datasets/{id}/export`: the dataset as a zip."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query
from fastapi.responses import Response, StreamingResponse

from api.routes.deps import IdPath, ResourcesDep, SessionDep
from api.routes.problems import responses
from api.services import dataset_export
from api.storage.base import content_disposition

router = APIRouter(prefix="/api/datasets", tags=["datasets"])

MEDIA_TYPE = "application/zip"


@router.get(
    "/{dataset_id}/export",
    responses={**responses(404, 422), 200: {"content": {MEDIA_TYPE: {}}}},
    response_class=Response,
)
async def export_dataset(
    session: SessionDep,
    resources: ResourcesDep,
    dataset_id: IdPath,
    version_id: Annotated[UUID | None, Query(description="Default: as the dataset is now.")] = None,
) -> Response:
    """Images with their captions in .txt files of the same name; POST /api/datasets/ makes the same dataset of it."""
    export = await dataset_export.find(session, dataset_id, version_id)
    headers = {"Content-Disposition": content_disposition(f"{export.dataset.name}.zip")}
    return StreamingResponse(dataset_export.zipped(resources.storage, export), media_type=MEDIA_TYPE, headers=headers)
