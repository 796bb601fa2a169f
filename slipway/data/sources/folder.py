"""`folder://DIR`: images in one folder a class; with `train` and `test` folders above them, the source's own splits are kept.

Where there is a `train` and no `test` (`train` and `val`, say), all images together are split as those of a plain folder.
"""

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from slipway.data.sources.base import SourceFile, SourceUri, copy_files, hash_files, require_folder
from slipway.errors import DataError

if TYPE_CHECKING:
    from slipway.data.raw import Origin, RawData, RawImage

FORM = "folder://DIR"
OPTIONS: tuple[str, ...] = ()
_SPLIT_FOLDERS: "dict[str, Origin]" = {
    "train": "train", "training": "train", "val": "train", "valid": "train", "validation": "train",
    "test": "test", "testing": "test",
}  # fmt: skip
_IGNORED = ("thumbs.db", "desktop.ini")
_MIN_CLASSES = 2


def model_name(uri: SourceUri) -> str:
    """The folder's name."""
    return uri.path.absolute().name


def compute_fingerprint(uri: SourceUri) -> str:
    """Of all files' names and bytes."""
    return hash_files(_find_files(uri))


def copy_source(uri: SourceUri, files_dir: Path) -> None:
    """Copy the class folders; hidden files are left out."""
    copy_files(uri, _find_files(uri), files_dir)


def open_copy(uri: SourceUri, files_dir: Path) -> "RawData":
    """Images are decoded by a few threads, some ahead of what is asked for."""
    from slipway.data.raw import RawImages, sort_class_names

    folders = _find_class_folders(files_dir)
    class_names = sort_class_names({name for _, name, _ in folders})
    listed = [
        (path, uri.show(path.relative_to(files_dir).as_posix()), class_names.index(name), origin)
        for folder, name, origin in folders
        for path in _list_files(folder)
    ]
    return RawImages(class_names=class_names, read=partial(_read_images, listed))


def _read_images(listed: "list[tuple[Path, str, int, Origin]]", min_side: int) -> "Iterator[RawImage]":
    from slipway.data.decoding import decode_files
    from slipway.data.raw import RawImage

    decoded = decode_files([path for path, *_ in listed], min_side)
    for (_, where, label, origin), (pixels, problem) in zip(listed, decoded, strict=True):
        yield RawImage(where=where, label=label, origin=origin, pixels=pixels, problem=problem)


def _find_files(uri: SourceUri) -> list[SourceFile]:
    root = require_folder(uri)
    folders = _find_class_folders(root)
    names = sorted({name for _, name, _ in folders})
    if len(names) < _MIN_CLASSES:
        found = f"one class folder only ({names[0]})" if names else "no class folder"
        raise DataError(
            f"{uri.text}: {root} holds {found}; two or more are needed. Put the images of each class into a folder of its own: "
            f"{root}/CLASS/image.jpg."
        )
    files = []
    for folder, _, _ in folders:
        listed = _list_files(folder)
        if not listed:
            raise DataError(f"{uri.text}: the class folder {folder} holds no image. Put images into it, or remove it.")
        files += [SourceFile(name=path.relative_to(root).as_posix(), path=path) for path in listed]
    _check_splits(uri, folders)
    return files


def _find_class_folders(root: Path) -> "list[tuple[Path, str, Origin]]":
    """Folder, class and origin, in a fixed order."""
    tops = _list_folders(root)
    splits = {_SPLIT_FOLDERS.get(top.name.lower()) for top in tops}
    if splits == {"train", "test"}:
        return [(folder, folder.name, _SPLIT_FOLDERS[top.name.lower()]) for top in tops for folder in _list_folders(top)]
    if splits == {"train"} and any(_list_folders(top) for top in tops):
        return [(folder, folder.name, "") for top in tops for folder in _list_folders(top)]
    if {"train", "test"} <= splits:
        odd = next(top for top in tops if top.name.lower() not in _SPLIT_FOLDERS)
        raise DataError(
            f"{odd} stands beside folders called train and test, which would make them classes too. "
            f"Move it away; accepted beside each other: {', '.join(_SPLIT_FOLDERS)}."
        )
    return [(folder, folder.name, "") for folder in tops]


def _check_splits(uri: SourceUri, folders: "list[tuple[Path, str, Origin]]") -> None:
    train = {name for _, name, origin in folders if origin == "train"}
    test = {name for _, name, origin in folders if origin == "test"}
    if train != test:
        odd = sorted(train ^ test)[0]
        place = "train" if odd in train else "test"
        raise DataError(f"{uri.text}: class {odd!r} has a folder under {place} only. Train and test need the same classes.")


def _list_folders(root: Path) -> list[Path]:
    return sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))


def _list_files(folder: Path) -> list[Path]:
    """Of the folder and all below it; linked folders too, each once, since a link may lead back up."""
    found: list[Path] = []
    entered: set[str] = set()
    for parent, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(parent)
        if real in entered:
            folders.clear()
            continue
        entered.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [Path(parent, name) for name in names if not name.startswith(".") and name.lower() not in _IGNORED]
    return sorted(found)
