"""`PATCH /api/datasets/{id}`: its name, trigger word and style of captions."""

from fastapi import APIRouter, Response

from api.routes.datasets import DatasetOut
from api.routes.deps import IdPath, SessionDep
from api.routes.preconditions import IfMatch, etag, revision
from api.routes.problems import responses
from api.services import dataset_details
from api.services.dataset_details import DatasetChanges

router = APIRouter(prefix="/api/datasets", tags=["datasets"])


@router.patch("/{dataset_id}", responses=responses(404, 412, 422))
async def change_dataset(
    session: SessionDep, response: Response, dataset_id: IdPath, changes: DatasetChanges, if_match: IfMatch = None
) -> DatasetOut:
    """Rename the dataset, or change its trigger word or style of captions; a version has the trigger word it had."""
    dataset = await dataset_details.change(session, dataset_id, changes, revision=revision(if_match))
    response.headers.update(etag(dataset.revision))
    return DatasetOut.model_validate(dataset)
