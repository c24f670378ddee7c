"""What is shown, as a file: who may read it."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from keywatch.errors import UsageError
from keywatch.report import output
from keywatch.report.output import refuse_inside_lake, write_whole
from keywatch.settings import LakeSettings
from tests.command import keywatch


def test_a_report_is_for_its_owner_alone_whatever_the_process_allows(tmp_path: Path) -> None:
    file = tmp_path / "review.html"
    allowed = os.umask(0)
    try:
        write_whole(file, "one")
        write_whole(file, "two")
    finally:
        os.umask(allowed)
    assert file.read_text("utf-8") == "two"
    assert file.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [file]


def test_a_text_in_parts_is_written_as_it_is_whatever_the_name(tmp_path: Path) -> None:
    file = tmp_path / "review.json.gz"
    write_whole(file, iter(["one\n", "two\n"]))
    assert file.read_bytes() == b"one\ntwo\n"


def test_a_report_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nowhere/review\.html: can't be written \(No such file"):
        write_whole(tmp_path / "nowhere" / "review.html", "one")


def test_a_pipe_or_a_device_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_text("utf-8")))
    reader.start()
    write_whole(pipe, "one")
    reader.join()
    assert read == ["one"]
    assert pipe.is_fifo()
    assert list(tmp_path.iterdir()) == [pipe]


@pytest.mark.parametrize("name", ["/dev/null", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"])
def test_what_the_system_has_there_is_no_file(name: str, tmp_path: Path) -> None:
    # Not tried by writing: where this failed, the machine would lose its device.
    assert output._is_no_file(Path(name))
    assert not output._is_no_file(tmp_path / "review.html")


@pytest.mark.parametrize(
    "words",
    [
        ["review"],
        ["review", "--format", "html"],
        ["review", "--schema"],
        ["lake", "export"],
        ["lake", "export", "--format", "stix"],
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("name", ["catalog.sqlite", "key-hash.secret", "data/new/one.json"])
def test_a_lake_s_files_are_not_overwritten(words: list[str], name: str, tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    lake.mkdir()
    for kept in ("catalog.sqlite", "key-hash.secret"):
        (lake / kept).write_text("kept")
    (tmp_path / "link").symlink_to(lake)
    for given in (lake / name, tmp_path / "link" / name, tmp_path / "lake" / ".." / "lake" / name):
        ran = keywatch(*words, "--lake", lake, "--output", given, cwd=tmp_path)
        assert (ran.code, ran.out) == (2, "")
        assert f"{given}: this is among the files of the lake" in ran.err
    assert {file.name: file.read_text() for file in lake.iterdir()} == {
        "catalog.sqlite": "kept", "key-hash.secret": "kept",
    }  # fmt: skip


def test_the_demo_s_page_is_no_file_of_its_lake(tmp_path: Path) -> None:
    page = tmp_path / "kept" / "lake" / "catalog.sqlite"
    ran = keywatch("demo", "--keep", tmp_path / "kept", "--html", page, cwd=tmp_path)
    assert ran.code == 2
    assert "choose a file outside the lake" in ran.err
    assert list((tmp_path / "kept").iterdir()) == []


def test_a_lake_s_files_may_be_elsewhere(tmp_path: Path) -> None:
    lake, catalogue = tmp_path / "lake", tmp_path / "catalogues" / "one.sqlite"
    settings = LakeSettings(catalog=f"sqlite:{catalogue}", data_path=str(tmp_path / "data"))
    for file in (catalogue, tmp_path / "data" / "main" / "one.parquet", lake / "key-hash.secret"):
        with pytest.raises(UsageError, match="choose a file outside the lake"):
            refuse_inside_lake(file, lake, settings)
    for file in (tmp_path / "lake.html", tmp_path / "catalogues" / "one.html", Path("/dev/stdout")):
        refuse_inside_lake(file, lake, settings)
    on_s3 = LakeSettings(catalog="postgres:dbname=keywatch", data_path="s3://bucket/keywatch")
    refuse_inside_lake(tmp_path / "s3:" / "bucket" / "keywatch" / "one.html", lake, on_s3)
