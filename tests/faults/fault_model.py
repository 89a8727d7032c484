"""A file system that forgets: what a power cut may leave of the calls that a `Disk` wrote down.

Less is promised here than by any real disk. Of what was written to a file since its last fsync each
4 KB page is there or not; of what was named, renamed or removed in a folder since the folder's last
fsync each change is there or not. Naming a file does not sync it, syncing a file does not keep its
name, and no order holds.
"""

from __future__ import annotations

import os
import random
from dataclasses import dataclass, field
from pathlib import Path

PAGE = 4096


@dataclass
class _File:
    data: bytes = b""


@dataclass
class _Folder:
    entries: dict[str, _File | _Folder] = field(default_factory=dict)


@dataclass
class _Change:
    """One change of a folder's entry (node None: it goes) or of a page of a file, and the sync that made it durable.

    A rename is two changes; the old name never goes without the new one being there.
    """

    where: _Folder | _File
    name: str | int
    node: object
    durable: float = float("inf")
    only_with: _Change | None = None


class Model:
    """The calls of a log, applied to a folder's content before them (`folder_bytes`)."""

    def __init__(self, before: dict[str, bytes], log: list[tuple]) -> None:
        self.before, self.log = before, log

    def reported(self, end: int) -> list:
        """Return what was reported within the first `end` entries."""
        return [entry[1] for entry in self.log[:end] if entry[0] == "reported"]

    def state(self, end: int, dice: random.Random | None = None) -> dict[str, bytes]:
        """Return the folder's content after the first `end` entries; with dice, after a power cut then."""
        live, tree = _tree(self.before), _tree(self.before)
        twins = {id(node): twin for node, twin in zip(_nodes(live), _nodes(tree), strict=True)}
        changes = _changes(live, self.log[:end])
        lost = set()
        for change in changes:
            kept = dice is None or change.durable < end or dice.random() < 0.5
            if not kept or id(change.only_with) in lost:
                lost.add(id(change))
                continue
            where = twins.setdefault(id(change.where), type(change.where)())
            if isinstance(where, _File):
                _write(where, change.name, change.node)
            elif change.node is None:
                where.entries.pop(change.name, None)
            else:
                where.entries[change.name] = twins.setdefault(id(change.node), type(change.node)())
        return _bytes(tree)


def _changes(live: _Folder, log: list[tuple]) -> list[_Change]:
    """Apply calls to a live tree, and list what each changed."""
    files: dict[int, _File] = {}
    changes: list[_Change] = []

    def name(path, node, only_with=None):
        folder, last = _find(live, os.path.dirname(path) or "."), os.path.basename(path)  # noqa: PTH119, PTH120
        if node is None:
            del folder.entries[last]
        else:
            folder.entries[last] = node
        changes.append(_Change(folder, last, node, only_with=only_with))
        return changes[-1]

    for at, (call, *arguments) in enumerate(log):
        first = arguments[0]
        if call == "create":
            files[arguments[1]] = _File()
            name(first, files[arguments[1]])
        elif call == "write":
            _, offset, data = arguments
            for start in range(0, len(data), PAGE):
                part = data[start : start + PAGE]
                _write(files[first], offset + start, part)
                changes.append(_Change(files[first], offset + start, part))
        elif call == "fsync":
            where = files[first] if isinstance(first, int) else _find(live, first)
            for change in changes:
                if change.where is where:
                    change.durable = min(change.durable, at)
        elif call == "mkdir":
            name(first, _Folder())
        elif call == "link":
            name(arguments[1], _find(live, first))
        elif call == "rename":
            name(first, None, only_with=name(arguments[1], _find(live, first)))
        elif call in ("unlink", "rmdir"):
            name(first, None)
    return changes


def _write(file: _File, offset: int, part: bytes) -> None:
    file.data = file.data[:offset].ljust(offset, b"\0") + part + file.data[offset + len(part) :]


def _find(tree: _Folder, path: str) -> _File | _Folder:
    node = tree
    for name in path.split("/") if path != "." else ():
        node = node.entries[name]
    return node


def _nodes(tree: _Folder) -> list[_File | _Folder]:
    found = [tree]
    for _, node in sorted(tree.entries.items()):
        found += _nodes(node) if isinstance(node, _Folder) else [node]
    return found


def _tree(content: dict[str, bytes]) -> _Folder:
    tree = _Folder()
    for name, data in sorted(content.items()):
        *above, last = name.rstrip("/").split("/")
        _find(tree, "/".join(above) or ".").entries[last] = (
            _Folder() if name.endswith("/") else _File(data)
        )
    return tree


def _bytes(tree: _Folder, prefix: str = "") -> dict[str, bytes]:
    found = {}
    for name, node in tree.entries.items():
        if isinstance(node, _Folder):
            found |= {f"{prefix}{name}/": b"", **_bytes(node, f"{prefix}{name}/")}
        else:
            found[f"{prefix}{name}"] = node.data
    return found


def folder_bytes(folder: Path) -> dict[str, bytes]:
    """Return what is in a folder: its files by name, and its folders with a slash at the end of theirs."""
    found = {}
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        found[f"{name}/" if path.is_dir() else name] = b"" if path.is_dir() else path.read_bytes()
    return found


def make_folder_of(content: dict[str, bytes], folder: Path) -> None:
    """Make a folder of what `folder_bytes` or `Model.state` returned."""
    folder.mkdir()
    for name, data in sorted(content.items()):
        if name.endswith("/"):
            (folder / name).mkdir()
        else:
            (folder / name).write_bytes(data)
