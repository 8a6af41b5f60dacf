"""What the environment, or a `.env` file, says of the store to use."""

from __future__ import annotations

from typing import Literal
from urllib.parse import quote

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict
from typing_extensions import Self

from langchain_memstore.options import SECONDS_LIMIT, Options


class MemstoreSettings(BaseSettings):
    """The settings of a store: each is the environment variable of its name in capital letters.

    A variable that is set to nothing is not set.
    Without `MEMORY_PROVIDER` the store is in Redis where `REDIS_URL` or `REDIS_HOST` is set, and else in the process.
    """

    model_config = SettingsConfigDict(
        env_file=".env",
        env_ignore_empty=True,
        extra="ignore",
        hide_input_in_errors=True,
    )

    memory_provider: Literal["redis", "local"] | None = None
    """Where conversations are kept."""
    redis_url: SecretStr | None = None
    """The whole address; the variables below are for when there is none."""
    redis_host: str | None = Field(None, pattern=r"^[^\s/@?#]+$")
    """The server's name or address."""
    redis_port: int = Field(6379, ge=1, le=65535)
    """The server's port."""
    redis_db: int = Field(0, ge=0)
    """The number of the database."""
    redis_username: str | None = None
    """The user to log in as."""
    redis_password: SecretStr | None = None
    """The user's password."""
    redis_ssl: bool = False
    """Whether to connect over TLS."""
    session_ttl: float | None = Field(None, gt=0, lt=SECONDS_LIMIT)
    """Seconds until an unused session expires."""
    max_history_length: int | None = Field(None, ge=1)
    """The most messages that a window keeps."""
    memstore_key_prefix: str | None = None
    """The first part of every key."""
    memstore_encryption_keys: SecretStr | None = None
    """The keys that encrypt what is stored, separated by commas: the first encrypts, all decrypt."""
    memstore_compress_above: int | None = Field(None, ge=1)
    """How many bytes a message may have, as JSON, before it is compressed."""

    @classmethod
    def load(cls) -> Self:
        """Read the environment.

        Raises:
            ValueError: A variable makes no sense; the error names it, and not what it was set to.
        """
        try:
            return cls()  # type: ignore[call-arg]
        except ValidationError as error:
            errors = error.errors(include_input=False)
            wrong = "; ".join(f"{str(each['loc'][0]).upper()}: {each['msg']}" for each in errors)
        except UnicodeDecodeError:
            wrong = ".env is not UTF-8"
        raise ValueError(f"the environment (or .env) cannot be used: {wrong}")

    def url(self) -> str:
        """Return the URL of the store, password included: not for logs."""
        provider = self.memory_provider or ("redis" if self.redis_url or self.redis_host else "local")
        if provider == "local":
            return "memory://"
        if self.redis_url is not None:
            return self.redis_url.get_secret_value()
        login = ""
        if self.redis_username or self.redis_password:
            password = self.redis_password.get_secret_value() if self.redis_password else ""
            login = f"{quote(self.redis_username or '', safe='')}:{quote(password, safe='')}@"
        scheme = "rediss" if self.redis_ssl else "redis"
        host = self.redis_host or "localhost"
        host = f"[{host}]" if ":" in host else host
        return f"{scheme}://{login}{host}:{self.redis_port}/{self.redis_db}"

    def options(self) -> Options:
        """Return the options that the environment sets."""
        options: Options = {}
        if self.session_ttl is not None:
            options["ttl"] = self.session_ttl
        if self.max_history_length is not None:
            options["max_messages"] = self.max_history_length
        if self.memstore_key_prefix is not None:
            options["key_prefix"] = self.memstore_key_prefix
        if self.memstore_encryption_keys is not None:
            keys = self.memstore_encryption_keys.get_secret_value().split(",")
            options["encryption_keys"] = [key.strip() for key in keys]
        if self.memstore_compress_above is not None:
            options["compress_above"] = self.memstore_compress_above
        return options
