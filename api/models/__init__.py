"""The tables: the user's four and what belongs to them, jobs, checkpoints and records of trainings, imports, replayed
answers, files and webhooks on their way."""

from api.models.asset import GeneratedAsset
from api.models.batch import Batch
from api.models.candidate import TrainingCandidate
from api.models.caption_edit import CaptionChange, CaptionEdit
from api.models.captioning import Captioning, CaptioningImage
from api.models.checkpoint import TrainingCheckpoint
from api.models.dataset import Dataset, DatasetImage, DatasetPicture
from api.models.dataset_version import DatasetVersion, DatasetVersionImage
from api.models.idempotency import StoredAnswer
from api.models.image_measurement import ImageMeasurement
from api.models.input_image import InputImage
from api.models.installation import Installation
from api.models.job import Job
from api.models.lora import Model
from api.models.model_import import ModelImport
from api.models.thumbnail import DatasetThumbnail, Thumbnail
from api.models.training import TrainingSession
from api.models.training_record import TrainingLog, TrainingMetrics, TrainingSample
from api.models.unrecorded import UnrecordedFile
from api.models.webhook import WebhookDelivery
from api.models.workflow import EngineSnapshot, Workflow

__all__ = [
    "Batch",
    "CaptionChange",
    "CaptionEdit",
    "Captioning",
    "CaptioningImage",
    "Dataset",
    "DatasetImage",
    "DatasetPicture",
    "DatasetThumbnail",
    "DatasetVersion",
    "DatasetVersionImage",
    "EngineSnapshot",
    "GeneratedAsset",
    "ImageMeasurement",
    "InputImage",
    "Installation",
    "Job",
    "Model",
    "ModelImport",
    "StoredAnswer",
    "Thumbnail",
    "TrainingCandidate",
    "TrainingCheckpoint",
    "TrainingLog",
    "TrainingMetrics",
    "TrainingSample",
    "TrainingSession",
    "UnrecordedFile",
    "WebhookDelivery",
    "Workflow",
]
