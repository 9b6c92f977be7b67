"""The pepper: a secret of this installation, kept apart from the database."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from pydantic import SecretStr

LENGTH = 32


def has_pepper(data_dir: Path, configured: SecretStr | None) -> bool:
    """Whether there is one already, so that ``load_pepper`` makes none."""
    return bool(configured and configured.get_secret_value()) or (data_dir / "pepper").exists()


def load_pepper(data_dir: Path, configured: SecretStr | None) -> bytes:
    """The configured pepper, else the one in the data directory, made at the first call."""
    if configured is not None and configured.get_secret_value():
        return configured.get_secret_value().encode()
    path = data_dir / "pepper"
    if not path.exists():
        _create(path)
    pepper = path.read_bytes()
    if len(pepper) < LENGTH:
        raise RuntimeError(
            "The file 'pepper' in data_dir is damaged; restore it, or delete it and all API keys."
        )
    return pepper


def _create(path: Path) -> None:
    """Write a whole file or none; the first of several processes wins."""
    temporary = path.with_name(f".pepper.{secrets.token_hex(8)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(LENGTH))
            file.flush()
            os.fsync(file.fileno())
        os.link(temporary, path)
    except FileExistsError:
        pass
    finally:
        temporary.unlink()
