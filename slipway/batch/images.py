"""Images, fetched and decoded by threads while the model works on those before, and put together by size."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from threading import Condition

import numpy as np

from slipway.batch.stream import InputFile
from slipway.cores import count_cores
from slipway.data.images import Pixels
from slipway.errors import RequestError
from slipway.storage.listing import StoredFile
from slipway.storage.objects import ObjectStorage
from slipway.storage.uri import is_remote

MAX_IMAGES = 64
"""Of one size, that go to the model at once."""
_MAX_BYTES = 64 << 20
"""Of pixels that are decoded ahead, of those that wait for more of their size, and of files that are fetched ahead."""
_MAX_FILE_BYTES = 128 << 20
"""What the most pixels take that are accepted: no image is larger."""
_MAX_AHEAD = 128
_NUM_FETCHED_AT_ONCE = 16
_MAX_THREADS = 8

Decode = Callable[[bytes], Pixels]
"""A file's content as the model takes it; RequestError where it is no such image."""


@dataclass(frozen=True)
class Group:
    """Images of one size."""

    places: list[int]
    """Among the files that were asked for."""
    pixels: Pixels
    """[images, height, width, channels]."""


def read_images(
    storage: ObjectStorage, folder: str, files: Sequence[StoredFile], decode: Decode
) -> Iterator[Group | tuple[int, str]]:
    """Groups of images, in no order, and of each file that cannot be read its place and why.

    Memory holds three times 64 MiB, and one image for each core.

    Raises:
        BatchError: a file has changed since it was listed.
        StorageError: one cannot be reached.
    """
    waiting: dict[tuple[int, ...], list[tuple[int, Pixels]]] = {}
    num_bytes = 0
    for place, found in _decode_ahead(storage, folder, files, decode):
        if isinstance(found, str):
            yield place, found
            continue
        group = waiting.setdefault(found.shape, [])
        group.append((place, found))
        num_bytes += found.nbytes
        if len(group) < MAX_IMAGES and num_bytes < _MAX_BYTES:
            continue
        if len(group) < MAX_IMAGES:
            group = max(waiting.values(), key=lambda images: len(images) * images[0][1].nbytes)
        del waiting[group[0][1].shape]
        num_bytes -= len(group) * group[0][1].nbytes
        yield _stack(group)
    for group in waiting.values():
        yield _stack(group)


def _stack(group: list[tuple[int, Pixels]]) -> Group:
    return Group([place for place, _ in group], np.stack([pixels for _, pixels in group]))


def _decode_ahead(
    storage: ObjectStorage, folder: str, files: Sequence[StoredFile], decode: Decode
) -> Iterator[tuple[int, Pixels | str]]:
    room = _Room(_MAX_BYTES)

    def fetch(file: StoredFile) -> bytes | str:
        if file.size_bytes > _MAX_FILE_BYTES:
            return f"it has {file.size_bytes} bytes; accepted: at most {_MAX_FILE_BYTES}"
        return InputFile(storage, folder, file).read_whole()

    def read(place: int, fetched: Callable[[], bytes | str]) -> Pixels | str:
        found: Pixels | str = ""
        try:
            content = fetched()
            found = content if isinstance(content, str) else decode(content)
        except RequestError as error:
            found = str(error)
        finally:
            room.take(place, 0 if isinstance(found, str) else found.nbytes)
        return found

    fetching = ThreadPoolExecutor(_NUM_FETCHED_AT_ONCE, thread_name_prefix="fetch")
    decoding = ThreadPoolExecutor(min(_MAX_THREADS, count_cores()), thread_name_prefix="decode")
    ahead: deque[Future[Pixels | str]] = deque()
    begun = num_bytes = 0
    try:
        for place, file in enumerate(files):
            while begun < len(files) and len(ahead) < _MAX_AHEAD:
                if ahead and num_bytes + files[begun].size_bytes > _MAX_BYTES:
                    break
                wanted = partial(fetch, files[begun])
                ahead.append(decoding.submit(read, begun, fetching.submit(wanted).result if is_remote(folder) else wanted))
                num_bytes += files[begun].size_bytes
                begun += 1
            room.expect(place)
            found = ahead.popleft().result()
            num_bytes -= file.size_bytes
            room.give(0 if isinstance(found, str) else found.nbytes)
            yield place, found
    finally:
        room.close()
        for pool in (fetching, decoding):
            pool.shutdown(cancel_futures=True)


class _Room:
    """Bytes that may be held. Who is expected takes its share at once, so that those after it never keep it waiting."""

    def __init__(self, num_bytes: int) -> None:
        self._left = num_bytes
        self._expected = 0
        self._num_waiting = 0
        self._is_closed = False
        self._changed = Condition()

    def expect(self, place: int) -> None:
        """Nothing is given back before what `place` takes."""
        with self._changed:
            self._expected = place
            self._tell()

    def take(self, place: int, num_bytes: int) -> None:
        """Wait for so many bytes, or to be expected."""
        with self._changed:
            self._num_waiting += 1
            self._changed.wait_for(lambda: self._is_closed or self._left >= num_bytes or self._expected == place)
            self._num_waiting -= 1
            self._left -= num_bytes

    def give(self, num_bytes: int) -> None:
        """Give back what was taken."""
        with self._changed:
            self._left += num_bytes
            self._tell()

    def close(self) -> None:
        """Let nobody wait any more."""
        with self._changed:
            self._is_closed = True
            self._tell()

    def _tell(self) -> None:
        if self._num_waiting:
            self._changed.notify_all()
