"""What the settings come to, for the notebook, told by the service's own Python: `python -m api.colab.facts`."""

import json
import sys

from api import token_file
from api.bind import base_url
from api.errors import EX_CONFIG, ConfigError
from api.settings import Settings, load_settings


def facts(settings: Settings) -> dict[str, object]:
    """Among them the token, which is made if there is none: the door of a notebook's service is always locked."""
    settings.make_data_dir()
    own = settings.masuka_api_token.get_secret_value()
    made = not own and token_file.ensure(settings.masuka_data_dir)
    return {
        "url": base_url(settings.masuka_host, settings.masuka_port),
        "port": settings.masuka_port,
        "data_dir": str(settings.masuka_data_dir),
        "token": settings.api_token,
        "token_is_new": made,
        "has_backup_place": bool(settings.s3_bucket_name or settings.masuka_backup_dir),
        "wants_tunnel": settings.wants_tunnel,
    }


if __name__ == "__main__":
    try:
        sys.stdout.write(json.dumps(facts(load_settings())))
    except ConfigError as exc:
        sys.stdout.write(str(exc))
        sys.exit(EX_CONFIG)
