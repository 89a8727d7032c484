from __future__ import annotations

import dataclasses
import errno
import multiprocessing
import os
import signal
import time

import pytest

from shopfloor.core import DiskError, InvalidInputError
from shopfloor.datasets.disk.files import POSIX
from shopfloor.datasets.disk.staging import staged_file, staged_folder


def write(place, kind=staged_folder, calls=POSIX, then=lambda: None):
    with kind(place, calls) as staged:
        if kind is staged_folder:
            (staged / "inner").mkdir()
            (staged / "inner/file").write_bytes(b"content")
        else:
            staged.write_bytes(b"content")
        then()


def interrupt():
    raise KeyboardInterrupt


BOTH = pytest.mark.parametrize("kind", [staged_folder, staged_file])


@BOTH
def test_it_appears_at_the_end(tmp_path, kind):
    place = tmp_path / "far/away/new"
    with kind(place) as staged:
        assert staged.parent == place.parent
        assert not place.exists()
        if kind is staged_file:
            staged.write_bytes(b"x")
    assert [path.name for path in place.parent.iterdir()] == ["new"]


@BOTH
def test_an_error_inside_leaves_nothing(tmp_path, kind):
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "new", kind, then=interrupt)
    assert list(tmp_path.iterdir()) == []


@BOTH
def test_nothing_is_replaced(tmp_path, kind):
    for name, make in [
        ("file", lambda path: path.write_text("mine")),
        ("folder", lambda path: path.mkdir()),
    ]:
        make(tmp_path / name)
        with pytest.raises(InvalidInputError, match="exists"):
            write(tmp_path / name, kind)
    (tmp_path / "link").symlink_to("nowhere")
    with pytest.raises(InvalidInputError, match="exists"):
        write(tmp_path / "link", kind)
    with pytest.raises(
        InvalidInputError, match="exists"
    ):  # made by another meanwhile, even if empty
        write(tmp_path / "late", kind, then=(tmp_path / "late").mkdir)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder", "late", "link"]
    assert list((tmp_path / "late").iterdir()) == []


@BOTH
def test_below_a_file_or_where_nothing_can_be_written(tmp_path, kind, monkeypatch):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InvalidInputError, match="is not a folder"):
        write(tmp_path / "file/new", kind)
    monkeypatch.setattr("os.access", lambda *arguments: False)
    with pytest.raises(InvalidInputError, match="cannot be written to"):
        write(tmp_path / "new", kind)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@BOTH
def test_names_may_be_as_long_as_the_file_system_allows(tmp_path, kind):
    write(tmp_path / ("n" * 255), kind)
    assert [path.name for path in tmp_path.iterdir()] == ["n" * 255]


@BOTH
def test_a_file_system_without_that_rename(tmp_path, kind):
    def refuse(source, target):
        raise OSError(errno.EINVAL, "no such flag")

    calls = dataclasses.replace(POSIX, rename_noreplace=refuse)
    write(tmp_path / "new", kind, calls)
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


@BOTH
def test_refused_at_any_call_nothing_is_left(tmp_path, kind):
    said = set()
    for number in range(50):
        left = number

        def call(real):
            def failing(*arguments):
                nonlocal left
                left -= 1
                if left == -1:
                    raise OSError(errno.ENOSPC, "No space left on device")
                return real(*arguments)

            return failing

        names = [
            field.name
            for field in dataclasses.fields(POSIX)
            if field.name not in ("close", "unlink")
        ]
        calls = dataclasses.replace(POSIX, **{name: call(getattr(POSIX, name)) for name in names})
        try:
            write(tmp_path / "new", kind, calls)
        except DiskError as error:
            said.add(str(error))
        else:
            break
        # Refused after the rename, it is there, whole.
        assert [path.name for path in tmp_path.iterdir()] in ([], ["new"])
        if (tmp_path / "new").exists():
            (tmp_path / "new").rename(tmp_path.parent / f"{tmp_path.name}-{number}")
    assert number > 4
    assert all("Free some space" in text for text in said)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_the_disk_refuses_what_is_written_inside(tmp_path, number):
    with pytest.raises(DiskError, match="new failed"), staged_folder(tmp_path / "new"):
        raise OSError(number, os.strerror(number))
    assert list(tmp_path.iterdir()) == []


def test_errors_about_other_files_stay_what_they_are(tmp_path):
    with pytest.raises(FileNotFoundError), staged_folder(tmp_path / "new"):
        (tmp_path / "nothing").read_bytes()


@BOTH
def test_leftovers_of_the_dead_are_swept(tmp_path, wait_until, kind):
    def hang():
        with kind(tmp_path / "new") as staged:
            (staged / "file" if kind is staged_folder else staged).write_bytes(b"x")
            time.sleep(3600)

    process = multiprocessing.get_context("fork").Process(target=hang, daemon=True)
    process.start()
    wait_until(lambda: list(tmp_path.glob(".new.*")))
    write(tmp_path / "other", kind)
    with kind(tmp_path / "new") as staged:  # while it runs, its folder stays
        assert len(list(tmp_path.glob(".new.*"))) >= 1
        (staged / "file" if kind is staged_folder else staged).write_bytes(b"x")
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert len(list(tmp_path.glob(".new.*"))) == 1
    (tmp_path / "new").rename(tmp_path / "third")
    write(tmp_path / "new", kind)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "other", "third"]
