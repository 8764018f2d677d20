"""The file generator: what it writes, and what it says when it cannot."""

from __future__ import annotations

import os
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from fastws.client.createfile import build_page, file_name, main

_VOID = {"meta", "link"}


class Outline(HTMLParser):
    """Checks that elements nest, and collects the texts and links."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.texts: dict[str, str] = {}
        self.links: dict[str, str] = {}
        self.paragraphs = 0
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag == "a":
            self.links[str(values["rel"])] = str(values["href"])
        self.paragraphs += tag == "p"
        if tag not in _VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open:
            self.texts[self.open[-1]] = self.texts.get(self.open[-1], "") + data


def test_writes_the_numbered_files_and_no_others(tmp_path: Path) -> None:
    out = tmp_path / "new" / "files"
    assert main(["--count", "12", "--out", str(out)]) == 0
    assert sorted(os.listdir(out)) == sorted(f"file{n}.html" for n in range(1, 13))


def test_hundred_files_by_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([]) == 0
    assert len(os.listdir("webroot/files")) == 100


def test_every_file_is_different() -> None:
    assert len({build_page(n, 300) for n in range(1, 301)}) == 300
    bodies = {build_page(n, 300).partition("<p>")[2].partition("</main>")[0] for n in range(1, 301)}
    assert len(bodies) == 300


def test_same_arguments_give_the_same_bytes_in_another_process(tmp_path: Path) -> None:
    assert main(["--count", "5", "--out", str(tmp_path / "a")]) == 0
    command = [sys.executable, "-m", "fastws.createfile", "--count", "5", "--out", str(tmp_path / "b")]
    environment = {**os.environ, "PYTHONHASHSEED": "7", "LC_ALL": "C"}
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
    for n in range(1, 6):
        assert (tmp_path / "a" / file_name(n)).read_bytes() == (tmp_path / "b" / file_name(n)).read_bytes()


def test_page_is_nested_html_with_title_heading_and_text() -> None:
    page = build_page(7, 100)
    outline = Outline(page)
    assert page.startswith("<!DOCTYPE html>\n")
    assert page.isascii()
    assert outline.texts["title"] == "Harbour log, page 7 of 100"
    assert outline.texts["h1"] == "Harbour log, page 7"
    assert outline.paragraphs >= 3


@pytest.mark.parametrize(
    ("number", "links"),
    [
        (1, {"next": "file2.html"}),
        (2, {"prev": "file1.html", "next": "file3.html"}),
        (3, {"prev": "file2.html"}),
    ],
)
def test_links_lead_to_the_neighbours_that_exist(number: int, links: dict[str, str]) -> None:
    found = Outline(build_page(number, 3)).links
    assert {rel: href for rel, href in found.items() if rel in ("prev", "next")} == links


@pytest.mark.parametrize("count", ["0", "-1", "many", "1.5", "", "1000001", "9" * 5000])
def test_bad_count_is_named_and_exits_2(
    count: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        main([f"--count={count}", "--out", str(tmp_path / "none")])
    assert exit_.value.code == 2
    assert f"{count!r} is not a whole number from 1 to 1000000" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


def test_folder_that_cannot_be_made_exits_1_and_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    blocker = tmp_path / "blocker"
    blocker.write_text("a file where a folder is wanted")
    assert main(["--out", str(blocker / "files")]) == 1
    error = capsys.readouterr().err
    assert error.startswith("fastws-createfile: cannot write ")
    assert str(blocker) in error
    assert error.count("\n") == 1


def test_file_that_cannot_be_written_exits_1_and_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file2.html").mkdir()
    assert main(["--count", "3", "--out", str(tmp_path)]) == 1
    assert "file2.html: Is a directory" in capsys.readouterr().err
