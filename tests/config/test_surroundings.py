"""Where each platform keeps the logs of an account's programs."""

from __future__ import annotations

import pytest

from fastws.config.surroundings import account_state, state_name


@pytest.mark.parametrize(
    ("platform", "environment", "home", "expected"),
    [
        ("linux", {}, "/home/me", "/home/me/.local/state"),
        ("linux", {"XDG_STATE_HOME": "/state"}, "/home/me", "/state"),
        ("linux", {"XDG_STATE_HOME": "state"}, "/home/me", "/home/me/.local/state"),
        ("linux", {}, "~", "~/.local/state"),
        ("darwin", {}, "/Users/me", "/Users/me/Library/Logs"),
        ("darwin", {"XDG_STATE_HOME": "/state"}, "/Users/me", "/state"),
        ("win32", {"LOCALAPPDATA": r"D:\Local"}, r"C:\Users\me", r"D:\Local"),
        ("win32", {}, r"C:\Users\me", r"C:\Users\me\AppData\Local"),
    ],
)
def test_logs_are_where_the_platform_keeps_them(
    platform: str, environment: dict[str, str], home: str, expected: str
) -> None:
    assert account_state(platform, environment, home) == expected


@pytest.mark.parametrize(
    ("root", "platform", "name"),
    [
        ("/srv/www", "linux", "srv-www"),
        ("/", "linux", "root"),
        ("/a\\b:c", "linux", "a\\b:c"),
        (r"C:\Users\me\site", "win32", "C-Users-me-site"),
        ("C:\\", "win32", "C"),
        (r"\\server\share\site", "win32", "server-share-site"),
        ("C:/mixed\\site", "win32", "C-mixed-site"),
    ],
)
def test_each_root_has_one_name(root: str, platform: str, name: str) -> None:
    assert state_name(root, platform) == name
