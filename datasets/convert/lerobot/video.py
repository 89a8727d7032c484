"""LeRobot's video files: pictures of several episodes in mp4 files of bounded size."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any, BinaryIO, cast

import av
import numpy as np
import numpy.typing as npt
from av.video.stream import VideoStream

from shopfloor.core import InvalidInputError, MissingDependencyError

PIXEL_FORMAT = "yuv420p"
# A key picture every second one, LeRobot's default: a reader who wants one picture decodes at most
# two.
KEY_EVERY = 2
# The first encoder that this build of PyAV has. Measured on 96 px pictures of our renderer
# (pictures per CPU second, bytes, PSNR in dB): x264 crf 18 veryfast without looking ahead 5,550,
# 791, 34.9; medium, looking ahead: 3,150, 712, 34.9; SVT-AV1 crf 30 preset 8: 518, 481, 34.3; crf
# 20 preset 10: 804, 1,093, 34.6. Colours at half resolution, which LeRobot's own files have too,
# bound it. x264 alone takes pictures under 64 px.
ENCODERS: dict[str, dict[str, str]] = {
    "libx264": {"crf": "18", "preset": "veryfast", "tune": "zerolatency"},
    "libsvtav1": {"crf": "20", "preset": "10"},
}
CODEC_NAMES = {"libx264": "h264", "libsvtav1": "av1"}


def find_encoder() -> str:
    """Return the name of the first of `ENCODERS` that is there."""
    for name in ENCODERS:
        with contextlib.suppress(av.FFmpegError, ValueError):
            av.codec.Codec(name, "w")
            return name
    raise MissingDependencyError(
        f"This PyAV has none of the encoders {', '.join(ENCODERS)}. Install it from its wheel (pip "
        "install av), or export with pictures='png'."
    )


def video_info(encoder: str, height: int, width: int, fps: int) -> dict[str, Any]:
    """Return the description of a video feature in LeRobot's `info.json`."""
    options = ENCODERS[encoder]
    preset = options["preset"]
    return {
        "video.height": height,
        "video.width": width,
        "video.codec": CODEC_NAMES[encoder],
        "video.pix_fmt": PIXEL_FORMAT,
        "video.fps": fps,
        "video.channels": 3,
        "has_audio": False,
        "video.g": KEY_EVERY,
        "video.crf": int(options["crf"]),
        "video.preset": int(preset) if preset.isdigit() else preset,
        "video.fast_decode": 0,
        "is_depth_map": False,
    }


class VideoWriter:
    """Writes one mp4 file, picture by picture.

    Attributes:
        path: the file.
        pictures: number of added pictures.
        bytes: their size, as far as they are encoded.
    """

    def __init__(self, path: Path, encoder: str, fps: int, height: int, width: int) -> None:
        """Create the file, which must not exist yet; sizes in pixels, both even."""
        if height % 2 or width % 2:
            raise InvalidInputError(
                f"Pictures of {height}x{width} pixels cannot be video in {PIXEL_FORMAT}, which "
                "needs even sides; export with pictures='png'."
            )

        self.path, self.pictures, self.bytes = path, 0, 0
        self._file: BinaryIO = path.open("xb")
        try:
            self._container = av.open(self._file, "w", format="mp4")
            options = {"g": str(KEY_EVERY), **ENCODERS[encoder]}
            self._stream = cast(
                VideoStream, self._container.add_stream(encoder, rate=fps, options=options)
            )

            self._stream.width, self._stream.height, self._stream.pix_fmt = (
                width,
                height,
                PIXEL_FORMAT,
            )

            # One thread: the same pictures give the same bytes, whatever the machine.
            self._stream.codec_context.thread_count = 1
        except BaseException:
            self._file.close()
            raise

    def add(self, pictures: npt.NDArray[np.uint8]) -> None:
        """Append pictures, shape (T, H, W, 3), uint8, RGB."""
        for picture in pictures:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            frame.pts = self.pictures
            self._mux(self._stream.encode(frame))
            self.pictures += 1

    def close(self) -> None:
        """Write what is left and close the file."""
        self._mux(self._stream.encode())
        self._container.close()
        self._file.close()

    def abandon(self) -> None:
        """Close the file as it is, after an error."""
        with contextlib.suppress(OSError, av.FFmpegError):
            self._container.close()
        with contextlib.suppress(OSError):
            self._file.close()

    def _mux(self, packets: list[av.Packet[VideoStream]]) -> None:
        self.bytes += sum(packet.size for packet in packets)
        self._container.mux(packets)
