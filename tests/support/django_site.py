"""The Django example, ready to be served: a copy with a database, collected files and an administrator."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import launch

EXAMPLES = launch.REPOSITORY / "examples"
USER, PASSWORD = "anna", "s3cret-enough"
LEFT_OUT = shutil.ignore_patterns("__pycache__", "*.sqlite3", "staticfiles", "log_*")


def manage(place: Path, *words: str, **variables: str) -> None:
    """Run ``manage.py`` of the copy at ``place``."""
    environment = launch.environment("pure", place, is_measured=False) | variables
    command = [sys.executable, "manage.py", *words]
    subprocess.run(command, cwd=place, check=True, env=environment, capture_output=True, timeout=120)


def prepare(place: Path) -> Path:
    """Make such a copy at ``place``, as the page of the example says; return ``place``."""
    shutil.copytree(EXAMPLES / "django", place, ignore=LEFT_OUT)
    manage(place, "migrate")
    manage(place, "collectstatic", "--noinput")
    words = ("createsuperuser", "--noinput", "--username", USER, "--email", "a@example.org")
    manage(place, *words, DJANGO_SUPERUSER_PASSWORD=PASSWORD)
    return place
