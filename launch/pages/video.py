"""Small videos that play in a browser without a network: frames to a data URI."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from shopfloor.core import CONTROL_HZ

# Container, codec, media type, options: what browsers play, free formats first.
_CHOICES: tuple[tuple[str, str, str, dict[str, str]], ...] = (
    (
        "webm",
        "libvpx-vp9",
        "video/webm",
        {"crf": "34", "b": "0", "deadline": "good", "cpu-used": "5"},
    ),
    ("webm", "libvpx", "video/webm", {"crf": "20", "b": "1M", "cpu-used": "5"}),
    ("mp4", "libx264", "video/mp4", {"crf": "26", "preset": "veryfast", "movflags": "+faststart"}),
)
Frames = npt.NDArray[np.uint8]


def encode(frames: Frames, fps: int = CONTROL_HZ, hold_s: float = 0.8) -> tuple[str, bytes]:
    """Encode pictures as a video.

    Args:
        frames: shape (T, height, width, 3), uint8, RGB; height and width even.
        fps: pictures a second.
        hold_s: how long the last picture stays, in seconds.

    Returns:
        (media type, file). Animated WebP where no video encoder is built in.
    """
    frames = np.concatenate([frames, np.repeat(frames[-1:], int(hold_s * fps), axis=0)])
    for container, codec, media_type, options in _CHOICES:
        data = _encode_with(frames, fps, container, codec, options)
        if data is not None:
            return media_type, data

    return "image/webp", _animated_webp(frames, fps)


def _encode_with(
    frames: Frames, fps: int, container: str, codec: str, options: dict[str, str]
) -> bytes | None:
    """Encode with one codec; None where this build of FFmpeg lacks it."""
    import av

    try:
        av.codec.Codec(codec, "w")
    except av.error.FFmpegError:
        return None
    except ValueError:  # how PyAV names an unknown codec
        return None

    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container) as file:
        stream: Any = file.add_stream(codec, rate=fps, options=options)
        stream.height, stream.width, stream.pix_fmt = frames.shape[1], frames.shape[2], "yuv420p"
        stream.thread_count = 1

        for picture in frames:
            file.mux(
                stream.encode(
                    av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
                )
            )

        file.mux(stream.encode())

    return buffer.getvalue()


def _animated_webp(frames: Iterable[Frames], fps: int) -> bytes:
    from PIL import Image

    first, *rest = (Image.fromarray(picture) for picture in frames)
    buffer = io.BytesIO()
    first.save(
        buffer,
        "WEBP",
        save_all=True,
        append_images=rest,
        duration=round(1000 / fps),
        loop=0,
        quality=60,
    )

    return buffer.getvalue()


def video_tag(frames: Frames, label: str) -> str:
    """Return an HTML element that plays the frames from a data URI.

    Args:
        frames: see `encode`.
        label: says what is shown, for people who cannot see it.
    """
    media_type, data = encode(frames)
    uri = f"data:{media_type};base64,{base64.b64encode(data).decode()}"
    size = f'width="{frames.shape[2]}" height="{frames.shape[1]}"'
    text = html.escape(label, quote=True)
    if media_type.startswith("image/"):
        return f'<img src="{uri}" {size} alt="{text}">'

    return f'<video src="{uri}" {size} aria-label="{text}" autoplay loop muted playsinline controls></video>'
