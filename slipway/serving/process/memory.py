"""How the C library's allocator treats large blocks. Nothing is done where it is not glibc's."""

import ctypes

_M_MMAP_THRESHOLD = -3
_LARGE_BYTES = 8 * 1024 * 1024


def return_large_blocks() -> None:
    """Let what one huge image took go back to the system with its request.

    By itself glibc raises the size from which it maps blocks one by one to that of the largest that was freed, up to 32 MiB. The
    decoders' blocks of 16 MiB then lie in the heaps of the threads and stay there: hundreds of megabytes after a few images.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)
