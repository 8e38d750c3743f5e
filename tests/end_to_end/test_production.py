"""The main path on PostgreSQL, Redis over TCP and S3, chosen by the environment alone."""

from pathlib import Path

import httpx
import pytest

from api.settings import Settings
from tests.end_to_end.conftest import train
from tests.end_to_end.service import files_below, pixels, running_service

pytestmark = [pytest.mark.engines, pytest.mark.timeout(400)]

TOKEN = "a-token-of-this-test"


def test_the_main_path_on_real_servers(
    tmp_path: Path, engines_dir: Path, photos: Path, postgres_url: str, valkey_url: str, empty_bucket: Settings
) -> None:
    env = {
        "DATABASE_URL": postgres_url,
        "REDIS_URL": valkey_url,
        "MASUKA_API_TOKEN": TOKEN,
        "S3_BUCKET_NAME": empty_bucket.s3_bucket_name,
        "S3_REGION": empty_bucket.s3_region,
        "S3_ENDPOINT_URL": empty_bucket.s3_endpoint_url,
        "AWS_ACCESS_KEY_ID": empty_bucket.aws_access_key_id,
        "AWS_SECRET_ACCESS_KEY": empty_bucket.aws_secret_access_key.get_secret_value(),
    }
    with running_service(tmp_path / "data", engines_dir, env, token=TOKEN) as service:
        trained = train(service, photos, steps=4)
        bare = pixels(service.draw(tmp_path))
        with_lora = service.draw(tmp_path, model_id=trained.model["id"], lora_scale=2.0)
        assert pixels(with_lora) != bare

        headers = {"Authorization": f"Bearer {TOKEN}"}
        answer = httpx.get(f"{service.api.url}/api/assets/{with_lora.stem}/file", headers=headers, trust_env=False)
        assert answer.status_code == 307
        assert answer.headers["location"].startswith(empty_bucket.s3_endpoint_url)

        assert not (tmp_path / "data" / "masuka.db").exists()
        assert not (tmp_path / "data" / "redis").exists()
        assert files_below(tmp_path / "data" / "storage") == []
