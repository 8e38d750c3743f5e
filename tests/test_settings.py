"""Settings: what is wrong is one line that names the variable; what is secret is never said."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from api.errors import ConfigError
from api.settings import PROJECT_ROOT, Settings, is_loopback, load_settings, sqlalchemy_url

S3 = {"S3_BUCKET_NAME": "b", "AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "very secret"}


def load(monkeypatch: pytest.MonkeyPatch, **env: str) -> Settings:
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    return load_settings(_env_file=None)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE_URL", "mysql://me@host/db"),
        ("DATABASE_URL", "postgresql://me@host:port/db"),
        ("DATABASE_URL", "postgresql://me@[::1/db"),
        ("DATABASE_URL", "postgresql://me@host/db?sslmode=maybe"),
        ("DATABASE_URL", "postgresql://me@host/db?pgbouncer=true"),
        ("DATABASE_URL", "sqlite://"),
        ("REDIS_URL", "http://host"),
        ("MASUKA_PORT", "many"),
        ("MASUKA_PORT", "65536"),
        ("MASUKA_PORT", "-1"),
        ("DEFAULT_FLUX_LEARNING_RATE", "0"),
        ("DEFAULT_FLUX_LEARNING_RATE", "nan"),
        ("DEFAULT_FLUX_STEPS", "1.5"),
        ("DEFAULT_FLUX_RANK", "257"),
        ("DEFAULT_FLUX_ALPHA", "inf"),
        ("DEFAULT_RESOLUTION", "1000"),
        ("MASUKA_MAX_FILES", "0"),
        ("MASUKA_LOG_LEVEL", "loud"),
        ("S3_BUCKET_NAME", "without-keys"),
        ("MASUKA_WEBHOOK_URL", "https://without-secret.org/"),
        ("MASUKA_WEBHOOK_URL", "example.org"),
        ("MASUKA_WEBHOOK_SECRET", "short"),
        ("MASUKA_WEBHOOK_DAYS", "0"),
    ],
)
def test_a_wrong_value_is_one_line_that_names_its_variable(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        load(monkeypatch, **{name: value})

    said = str(caught.value)
    assert name in said
    assert "\n" not in said
    assert caught.value.hint is not None


def test_everything_wrong_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError) as caught:
        load(monkeypatch, MASUKA_PORT="many", DEFAULT_FLUX_RANK="0")

    assert "MASUKA_PORT" in caught.value.detail
    assert "(got 'many')" in caught.value.detail
    assert "DEFAULT_FLUX_RANK" in caught.value.detail


@pytest.mark.parametrize(
    "env",
    [
        {"DATABASE_URL": "postgresql://me:hunter2@host:port/db"},
        {"DATABASE_URL": "postgresql://me:hunter2@host/db?sslmode=maybe"},
        {"DATABASE_URL": "hunter2"},
        {"REDIS_URL": "hunter2"},
        {"AWS_SECRET_ACCESS_KEY": "hunter2", "S3_BUCKET_NAME": "b"},
        {"HF_TOKEN": "hunter2", "MASUKA_PORT": "many"},
        {"MASUKA_API_TOKEN": "hunter2", "DEFAULT_RESOLUTION": "1"},
        {"MASUKA_WEBHOOK_URL": "https://hunter2.org/hunter2"},
        {"MASUKA_WEBHOOK_URL": "hunter2"},
        {"MASUKA_WEBHOOK_SECRET": "hunter2"},
    ],
)
def test_no_error_says_a_secret(monkeypatch: pytest.MonkeyPatch, env: dict[str, str]) -> None:
    with pytest.raises(ConfigError) as caught:
        load(monkeypatch, **env)

    assert "hunter2" not in f"{caught.value}{caught.value.value}{caught.value.__context__}"


def test_settings_do_not_say_their_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = {name: "hunter2" for name, field in Settings.model_fields.items() if field.annotation is SecretStr}
    assert len(secrets) >= 6
    secrets |= {"masuka_webhook_url": "https://hunter2/", "masuka_webhook_secret": "whsec_hunter2" + "a" * 33}

    found = load(monkeypatch, **{name.upper(): value for name, value in secrets.items()})

    assert "hunter2" not in f"{found!r} {found} {found.model_dump()}"


def test_unknown_variables_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    load(monkeypatch, MASUKA_NO_SUCH_THING="1", RANDOM="2")


def test_an_empty_variable_is_one_that_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    found = load(monkeypatch, MASUKA_PORT="", DATABASE_URL="", SIMPLETUNER_PATH="")

    assert (found.masuka_port, found.simpletuner_path) == (8000, None)


def test_the_env_file_is_read_and_the_environment_goes_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / ".env"
    file.write_text("MASUKA_PORT=9000\nDEFAULT_FLUX_RANK=8\nNO_SUCH_THING=1\n# a comment\n")
    monkeypatch.setenv("DEFAULT_FLUX_RANK", "4")

    found = load_settings(_env_file=file)

    assert (found.masuka_port, found.default_flux_rank) == (9000, 4)


def test_the_env_file_is_that_of_the_project_wherever_one_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    assert Settings.model_config["env_file"] == PROJECT_ROOT / ".env"


def test_paths_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/me")

    found = load(monkeypatch, MASUKA_DATA_DIR="here", COMFYUI_PATH="~/ComfyUI")

    assert (found.masuka_data_dir, found.comfyui_path) == (tmp_path / "here", Path("/home/me/ComfyUI"))
    assert found.engines_dir == tmp_path / "here" / "engines"


# ---- the database ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given_url", "expected"),
    [
        ("postgres://me:pw@host/db", "postgresql+asyncpg://me:pw@host/db"),
        ("postgresql://me@host:5433/db?sslmode=require", "postgresql+asyncpg://me@host:5433/db?ssl=require"),
        (
            "postgresql://me:p%40ss@ep-x.neon.tech/db?sslmode=require&channel_binding=require",
            "postgresql+asyncpg://me:p%40ss@ep-x.neon.tech/db?ssl=require",
        ),
        ("postgresql://me@/db?host=/run/postgresql", "postgresql+asyncpg://me@/db?host=%2Frun%2Fpostgresql"),
        ("postgresql:///db?host=/run", "postgresql+asyncpg:///db?host=%2Frun"),
        ("postgresql+asyncpg://me@host/db", "postgresql+asyncpg://me@host/db"),
        ("sqlite:///a.db", "sqlite+aiosqlite:///a.db"),
        ("sqlite+aiosqlite:////a.db", "sqlite+aiosqlite:////a.db"),
    ],
)
def test_database_urls_are_taken_as_hosts_hand_them_out(
    monkeypatch: pytest.MonkeyPatch, given_url: str, expected: str
) -> None:
    assert load(monkeypatch, DATABASE_URL=given_url).sqlalchemy_url == expected == sqlalchemy_url(given_url)


def test_the_default_database_is_in_the_data_folder(settings: Settings) -> None:
    assert settings.sqlalchemy_url == f"sqlite+aiosqlite:///{settings.masuka_data_dir}/masuka.db"


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0")))
def test_any_database_url_is_understood_or_refused(text: str) -> None:
    values: dict[str, Any] = {"database_url": "postgresql://" + text}
    try:
        found = load_settings(_env_file=None, **values)
    except ConfigError:
        return
    assert found.sqlalchemy_url.startswith("postgresql+asyncpg://")


# ---- storage, host, folder ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("endpoint", "named"),
    [
        ("", None),
        ("https://s3.eu-west-1.amazonaws.com", None),
        ("https://x.r2.cloudflarestorage.com", "https://x.r2.cloudflarestorage.com"),
    ],
)
def test_an_endpoint_of_amazon_is_not_named_to_the_client(
    monkeypatch: pytest.MonkeyPatch, endpoint: str, named: str | None
) -> None:
    assert load(monkeypatch, **S3, S3_ENDPOINT_URL=endpoint).s3_endpoint == named


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.8.8.8", "::1", "[::1]"])
def test_what_stays_on_this_machine_needs_no_token(host: str) -> None:
    assert is_loopback(host)
    Settings(_env_file=None).require_safe_bind(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "example.org", ""])
def test_what_others_can_reach_needs_a_token(host: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        Settings(_env_file=None, masuka_data_dir=tmp_path).require_safe_bind(host)
    assert caught.value.code == "token_required"

    Settings(_env_file=None, masuka_data_dir=tmp_path, masuka_api_token=SecretStr("x")).require_safe_bind(host)


@pytest.mark.parametrize("folder", ["/proc/masuka", "/dev/null", "/dev/null/data"])
def test_a_data_folder_that_cannot_be_is_said(folder: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Settings(_env_file=None, masuka_data_dir=Path(folder)).make_data_dir()

    assert caught.value.code == "data_dir_unusable"
    assert folder in str(caught.value)
