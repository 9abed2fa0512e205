"""What no message may show: passwords in addresses, and the values of environment variables that hold secrets."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

from configs.errors import RefusedError

# AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, MLFLOW_TRACKING_PASSWORD, MLFLOW_TRACKING_TOKEN, PGPASSWORD, CI_JOB_TOKEN
# and their like.
SECRET_NAME = re.compile(r"SECRET|TOKEN|PASSWORD|PASSPHRASE|CREDENTIAL|API_KEY")
LOGIN_IN_ADDRESS = re.compile(r"(?<=://)[^\s/@'\"]+@")
PASSWORD_IN_ADDRESS = re.compile(r"://[^\s/@'\"]*:[^\s/@'\"]+@")
SHORTEST_SECRET = 6  # a variable like MLFLOW_…_TOKEN=1 is a switch, and would eat half of every message
# Keys of DVC's remotes that hold one: dvc/config_schema.py:REMOTE_SCHEMAS.
SECRET_KEYS = {
    "secret_access_key", "session_token", "password", "passphrase", "token",
    "connection_string", "account_key", "sas_token", "client_secret",
    "oss_key_secret", "gdrive_client_secret",
}  # fmt: skip


def masked(text: str) -> str:
    """`text`, fit for a log."""
    text = LOGIN_IN_ADDRESS.sub("***@", text)
    secrets = {
        value
        for name, value in os.environ.items()
        if SECRET_NAME.search(name.upper()) and len(value) >= SHORTEST_SECRET
    }
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, "***")
    return text


def refuse_written_login(settings: Mapping[str, Any], file: str) -> None:
    """`settings`: DVC's, of a file that git keeps. Raises RefusedError where the login of a remote is in it."""
    for name, remote in settings.get("remote", {}).items():
        written = sorted(SECRET_KEYS & set(remote))
        if PASSWORD_IN_ADDRESS.search(str(remote.get("url", ""))):
            written.append("url")
        if written:
            raise RefusedError(
                f"{file}: the login of remote {name} is written down ({', '.join(written)}), and git keeps "
                "that file for ever; expected it in the environment",
                hint="replace it where it was issued, take it out of the file, "
                "and set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
            )
