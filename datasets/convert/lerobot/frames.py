"""Pictures from foreign mp4 files, found by their time; no other file is ever opened."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import av
import numpy as np
import numpy.typing as npt

from shopfloor.datasets.disk.errors import DamagedFileError, UnsafeFileError, read_error
from shopfloor.datasets.disk.files import open_regular

DECODERS = ("h264", "hevc", "av1", "libdav1d", "vp9", "libvpx-vp9", "mpeg4")
# How far a picture's time may be from the one asked for: LeRobot's own 0.1 ms, and room for times
# rounded to float32 and to the file's clock. Far less than half a step at any control rate.
TOLERANCE_S = 1e-3
# A jump of more than this is a seek; less is decoded through.
_SEEK_S = 2.0
# Texts that are not UTF-8 are no reason to refuse a video; PyAV takes them as they come from release 19 on.
_ANY_TEXT: dict[str, Any] = (
    {"metadata_errors": "replace"} if int(av.__version__.partition(".")[0]) < 19 else {}
)
ADVICE = "Get the dataset again from where it came from, or leave the episode out there."


class VideoReader:
    """An open mp4 file, read forwards; going back is a seek."""

    def __init__(self, path: Path, height: int, width: int) -> None:
        """Open a file whose pictures must be of this size in pixels.

        Raises:
            DamagedFileError: it is no video, or of another size; UnsafeFileError: what is refused
                in it.
        """
        self.path, self._size = path, (height, width)
        self._stack = contextlib.ExitStack()
        try:
            with self._errors():
                self._open()
        except BaseException:
            self._stack.close()
            raise

    def _open(self) -> None:
        fd = self._stack.enter_context(open_regular(self.path))
        file = self._stack.enter_context(os.fdopen(os.dup(fd), "rb"))
        # Handed over as an open file and with the format named, so that no name inside it leads to
        # another file.
        container = av.open(file, "r", format="mp4", options={"enable_drefs": "0"}, **_ANY_TEXT)
        self._container = self._stack.enter_context(container)
        if not container.streams.video:
            raise DamagedFileError(self.path, "it has no video stream", ADVICE)

        self._stream = container.streams.video[0]
        context = self._stream.codec_context
        if context is None:
            raise DamagedFileError(self.path, "its codec is not known", ADVICE)
        if context.name not in DECODERS:
            raise UnsafeFileError(
                self.path, f"its codec is {context.name!r}; read are {', '.join(DECODERS)}"
            )

        self._check_size(context.height, context.width)
        context.thread_count = 1
        self._clock_s = self._stream.time_base or Fraction(1, av.time_base)
        self._frames = self._decode()
        self._position_s = -2 * TOLERANCE_S  # of the last picture decoded: none yet

    def read_into(self, out: npt.NDArray[np.uint8], times_s: npt.NDArray[np.float64]) -> None:
        """Decode pictures.

        Args:
            out: shape (T, H, W, 3), uint8, RGB, filled.
            times_s: shape (T,), seconds from the file's start, rising.

        Raises:
            DamagedFileError: there is no picture at one of the times, or the file cannot be
                decoded.
        """
        with self._errors():
            for picture, time_s in zip(out, times_s.tolist(), strict=True):
                picture[:] = self._picture_at(time_s)

    def _picture_at(self, time_s: float) -> npt.NDArray[np.uint8]:
        if not TOLERANCE_S < time_s - self._position_s <= _SEEK_S:
            self._container.seek(round(time_s / self._clock_s), stream=self._stream, backward=True)
            self._frames = self._decode()

        found = "the file ends"
        for frame in self._frames:
            at_s = float(frame.pts * self._clock_s)
            self._position_s = at_s
            if at_s < time_s - TOLERANCE_S:
                continue
            if at_s <= time_s + TOLERANCE_S:
                self._check_size(frame.height, frame.width)
                picture: npt.NDArray[np.uint8] = frame.to_ndarray(format="rgb24")
                return picture

            found = f"the next one is at {at_s:.4f} s"
            break

        raise DamagedFileError(self.path, f"it has no picture at {time_s:.4f} s ({found})", ADVICE)

    def _decode(self) -> Iterator[Any]:
        return (frame for frame in self._container.decode(self._stream) if frame.pts is not None)

    def _check_size(self, height: int, width: int) -> None:
        if (height, width) != self._size:
            wanted = "x".join(str(side) for side in self._size)
            raise DamagedFileError(
                self.path, f"its pictures have {height}x{width} pixels, expected {wanted}", ADVICE
            )

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            raise DamagedFileError(self.path, "it is missing", ADVICE) from None
        except (av.FFmpegError, OverflowError) as error:
            raise DamagedFileError(self.path, f"it cannot be decoded ({error})", ADVICE) from error
        except OSError as error:
            raise read_error(self.path, error) from error

    def close(self) -> None:
        """Close the file."""
        self._stack.close()

    def __enter__(self) -> VideoReader:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        """Close the file."""
        self.close()
