"""The environment and the `.env` file: every variable, and no password where people look."""

from __future__ import annotations

import traceback
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.connection import parse_url

from langchain_memstore import Memstore, MemstoreSettings

KEY = "aHVudGVyMi1odW50ZXIyLWh1bnRlcjItaHVudGVyMi0="
VARIABLES = {
    "MEMORY_PROVIDER": "redis",
    "REDIS_URL": "rediss://ann:s3cret@one:1/1",
    "REDIS_HOST": "two",
    "REDIS_PORT": "6380",
    "REDIS_DB": "2",
    "REDIS_USERNAME": "ben",
    "REDIS_PASSWORD": "hunter2",
    "REDIS_SSL": "true",
    "SESSION_TTL": "3600",
    "MAX_HISTORY_LENGTH": "15",
    "MEMSTORE_KEY_PREFIX": "tenant",
    "MEMSTORE_ENCRYPTION_KEYS": f"{KEY}, {KEY}",
    "MEMSTORE_COMPRESS_ABOVE": "4096",
}
NOTHING = "memory://"


@pytest.fixture(autouse=True)
def clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(params=["environment", ".env"])
def given_variables(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Sets variables, in the environment or in a file."""

    def give(**variables: str) -> None:
        if request.param == "environment":
            for name, value in variables.items():
                monkeypatch.setenv(name, value)
        else:
            lines = [f"{name}='{value}'\n" if value else f"{name}=\n" for name, value in variables.items()]
            (tmp_path / ".env").write_text("".join(lines), encoding="utf-8")

    return give


def without(*names: str) -> dict[str, str]:
    return {name: value for name, value in VARIABLES.items() if name not in names}


def test_without_a_variable_the_store_is_in_the_process() -> None:
    settings = MemstoreSettings.load()
    assert (settings.url(), settings.options()) == (NOTHING, {})
    assert Memstore.from_env().status.backend == "local"


def test_every_variable(given_variables) -> None:
    given_variables(**without("REDIS_URL"))
    settings = MemstoreSettings.load()
    assert settings.url() == "rediss://ben:hunter2@two:6380/2"
    assert settings.options() == {
        "ttl": 3600,
        "max_messages": 15,
        "key_prefix": "tenant",
        "encryption_keys": [KEY, KEY],
        "compress_above": 4096,
    }


@pytest.mark.parametrize(
    ("variables", "url"),
    [
        (VARIABLES, "rediss://ann:s3cret@one:1/1"),
        ({"REDIS_URL": "redis://one"}, "redis://one"),
        ({"REDIS_HOST": "two"}, "redis://two:6379/0"),
        ({"REDIS_HOST": "::1"}, "redis://[::1]:6379/0"),
        ({"REDIS_HOST": "two", "REDIS_SSL": "1"}, "rediss://two:6379/0"),
        ({"REDIS_HOST": "two", "REDIS_PASSWORD": "p"}, "redis://:p@two:6379/0"),
        ({"REDIS_HOST": "two", "REDIS_USERNAME": "u"}, "redis://u:@two:6379/0"),
        ({"MEMORY_PROVIDER": "redis"}, "redis://localhost:6379/0"),
        ({"MEMORY_PROVIDER": "redis", "REDIS_DB": "3"}, "redis://localhost:6379/3"),
        ({**VARIABLES, "MEMORY_PROVIDER": "local"}, NOTHING),
        ({"MEMORY_PROVIDER": "local"}, NOTHING),
        ({"REDIS_PASSWORD": "p", "REDIS_PORT": "1"}, NOTHING),
        (dict.fromkeys(VARIABLES, ""), NOTHING),
        ({"REDIS_URL": "", "REDIS_HOST": "two", "REDIS_PORT": ""}, "redis://two:6379/0"),
        # what belongs to others
        ({"PROVIDER": "aws", "KEY_PREFIX": "x", "URL": "redis://x", "REDIS": "x"}, NOTHING),
    ],
    ids=str,
)
def test_the_url(variables: dict[str, str], url: str, given_variables) -> None:
    given_variables(**variables)
    assert MemstoreSettings.load().url() == url


def test_a_variable_that_is_set_to_nothing_is_not_set(given_variables) -> None:
    given_variables(**dict.fromkeys(VARIABLES, ""))
    assert MemstoreSettings.load().options() == {}


def test_the_environment_goes_before_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text("REDIS_HOST=file\nREDIS_DB=5\n")
    monkeypatch.setenv("REDIS_HOST", "environment")
    assert MemstoreSettings.load().url() == "redis://environment:6379/5"


def test_settings_have_the_names_of_their_variables() -> None:
    assert {name.upper() for name in MemstoreSettings.model_fields} == set(VARIABLES)
    settings = MemstoreSettings(memory_provider="redis", redis_host="h", session_ttl=5, memstore_key_prefix="p")
    assert settings.url() == "redis://h:6379/0"
    assert settings.options() == {"ttl": 5, "key_prefix": "p"}


@given(st.text(min_size=1), st.text(min_size=1))
def test_user_and_password_are_percent_encoded(username: str, password: str) -> None:
    settings = MemstoreSettings(redis_host="host", redis_username=username, redis_password=password)
    url = urlsplit(settings.url())
    assert (url.hostname, url.port, url.path) == ("host", 6379, "/0")
    assert (unquote(url.username or ""), unquote(url.password or "")) == (username, password)
    understood = parse_url(settings.url())
    assert (understood["username"], understood["password"]) == (username, password)


SECRET = "hunter2 p@:/?#[]%"
WRONG = {
    "MEMORY_PROVIDER": ["hunter2", "Redis", "memory"],
    "REDIS_HOST": ["redis://hunter2", "hunter2@host", "host/0", "two hosts"],
    "REDIS_PORT": ["hunter2", "0", "65536", "-1", "6379.5"],
    "REDIS_DB": ["hunter2", "-1"],
    "REDIS_SSL": ["hunter2", "2"],
    "SESSION_TTL": ["hunter2", "0", "-1", "nan", "inf", "1e12"],
    "MAX_HISTORY_LENGTH": ["hunter2", "0", "-1", "1.5"],
    "MEMSTORE_COMPRESS_ABOVE": ["hunter2", "0", "-1", "1.5"],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in WRONG.items() for value in values])
@pytest.mark.parametrize("load", [MemstoreSettings.load, Memstore.from_env], ids=["settings", "store"])
def test_a_wrong_value_names_its_variable_alone(name: str, value: str, load, given_variables) -> None:
    given_variables(**{"REDIS_HOST": "h", "REDIS_PASSWORD": SECRET, name: value})
    with pytest.raises(ValueError, match=rf"\(or .env\) cannot be used: {name}: [^;]*$") as caught:
        load()
    shown = "".join(traceback.format_exception(caught.value))
    assert "hunter2" not in shown
    assert "hunter2" not in repr(caught.value.__context__) + repr(caught.value.__cause__)


def test_every_wrong_variable_is_named(given_variables) -> None:
    given_variables(REDIS_PORT="x", SESSION_TTL="y")
    with pytest.raises(ValueError, match=r"REDIS_PORT: .*; SESSION_TTL: "):
        MemstoreSettings.load()


@pytest.mark.parametrize(
    "url",
    [
        "redis://ann:hunter2@host:port/0",
        "redis://ann:hunter2/x@host:6379/0",
        "http://ann:hunter2@host",
        "ann:hunter2@host",
        "redis+nope://ann:hunter2@host",
        "redis://ann:hunter2@host?socket_timeout=x",
    ],
)
def test_a_url_that_cannot_be_used_is_not_shown(url: str, given_variables) -> None:
    given_variables(REDIS_URL=url)
    with pytest.raises(ValueError, match=r"\(or .env\) cannot be used: REDIS_URL: .*URL") as caught:
        Memstore.from_env()
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))
    with pytest.raises(ValueError, match=r"^max_messages must be"):
        Memstore.from_env(max_messages=0)


def test_a_file_that_is_not_utf_8_is_not_shown(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"REDIS_PASSWORD=hunter2\xe9\n")
    with pytest.raises(ValueError, match=r"\.env is not UTF-8") as caught:
        MemstoreSettings.load()
    assert "hunter2" not in repr(caught.value) + repr(caught.value.__context__) + repr(caught.value.__cause__)


def test_settings_do_not_show_the_password(given_variables) -> None:
    given_variables(**VARIABLES)
    settings, store = MemstoreSettings.load(), Memstore.from_env()
    for shown in (repr(settings), str(settings), settings.model_dump_json(), repr(store), repr(store.history("s"))):
        assert "hunter2" not in shown
        assert "s3cret" not in shown
        assert KEY not in shown
    store.close()


def test_options_go_before_the_environment(given_variables) -> None:
    given_variables(MAX_HISTORY_LENGTH="15", MEMSTORE_KEY_PREFIX="tenant", SESSION_TTL="0.5")
    history = Memstore.from_env(max_messages=2, ttl=60).history("s")
    for number in range(5):
        history.add_user_message(str(number))
    assert [message.content for message in history.messages] == ["3", "4"]
    assert history.keys.meta == "tenant:meta:{s}"
    ttl = history.snapshot().ttl
    assert ttl is not None and 50 < ttl <= 60


def test_the_environment_bounds_the_window(given_variables) -> None:
    given_variables(MAX_HISTORY_LENGTH="2", SESSION_TTL="7.5")
    history = Memstore.from_env().history("s")
    for number in range(5):
        history.add_user_message(str(number))
    assert [message.content for message in history.messages] == ["3", "4"]
    ttl = history.snapshot().ttl
    assert ttl is not None and 5 < ttl <= 7.5
