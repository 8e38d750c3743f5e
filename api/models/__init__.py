"""The tables: the user's four, the images of a dataset, the job, training checkpoints, and replayed answers."""

from api.models.asset import GeneratedAsset
from api.models.checkpoint import TrainingCheckpoint
from api.models.dataset import Dataset, DatasetImage
from api.models.idempotency import StoredAnswer
from api.models.job import Job
from api.models.lora import Model
from api.models.training import TrainingSession

__all__ = [
    "Dataset",
    "DatasetImage",
    "GeneratedAsset",
    "Job",
    "Model",
    "StoredAnswer",
    "TrainingCheckpoint",
    "TrainingSession",
]
