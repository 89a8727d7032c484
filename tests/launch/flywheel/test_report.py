"""The report page, its charts and videos, from a fabricated summary."""

import html.parser
import io
import re

import av
import numpy as np
import pytest

from shopfloor.launch.flywheel import report
from shopfloor.launch.pages.charts import Point, Series, stacked_bars, success_chart, time_series
from shopfloor.launch.pages.page import page
from shopfloor.launch.pages.video import _CHOICES, _animated_webp, _encode_with, encode, video_tag

pytestmark = pytest.mark.core

VOID = {"meta", "link", "br", "img", "line", "circle", "rect", "polyline", "input"}


class Checker(html.parser.HTMLParser):
    """Finds unbalanced tags, and addresses that a browser would load."""

    def __init__(self):
        super().__init__()
        self.open, self.loads, self.tags = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.loads += [
            value for name, value in attrs if name in ("src", "href", "data", "poster", "srcset")
        ]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def check(text):
    checker = Checker()
    checker.feed(text)
    assert checker.open == []
    assert all(value.startswith("data:") for value in checker.loads)
    return checker


def frames(count=12, size=32):
    ramp = np.arange(count, dtype=np.uint8)[:, None, None, None] * 8
    return np.broadcast_to(ramp, (count, size, size, 3)).copy()


@pytest.fixture
def written(summary, config, monkeypatch):
    """The page of the fabricated summary, with drawn instead of rendered videos."""
    monkeypatch.setattr(
        report, "_videos", lambda out, summary, cell: video_tag(frames(), "seed 1: <timeout>")
    )
    config.out.mkdir()
    (config.out / "run.json").write_text(
        '{"versions": {"shopfloor": "0.1.0"}, "git": {"commit": "abc", "clean": false}}'
    )
    return report.write_report(config.out, summary).read_text()


def test_the_page_is_whole_and_loads_nothing(written):
    checker = check(written)
    assert checker.tags.count("svg") == 3
    assert checker.tags.count("video") == 1
    assert written.startswith('<!doctype html>\n<html lang="en">')
    assert "http:" not in written
    assert "https:" not in written


def test_the_page_tells_the_story(written):
    for text in (
        "20 % → 80 %",
        "teacher distillation, not self-improvement",
        "McNemar",
        "317,680",
        "0.9 ms",
        "abc with changes",
    ):
        assert text in written
    assert "shopfloor flywheel --cells PickToTray --turns 2 --observations poses" in written


def test_strings_are_escaped(summary, config, monkeypatch, tmp_path):
    monkeypatch.setattr(report, "_videos", lambda *_: "")
    (tmp_path / "run.json").write_text('{"versions": {"<script>": "1"}}')
    summary["turns"][1]["gate"]["why"] = "<script>alert(1)</script>"
    summary["turns"][1]["candidate"]["outcomes"]["<b>"] = 1
    summary["labels"]["statement"] = "a & b <i>"
    summary["efficiency"][0]["encoders"] = ['"><img src=x>']
    text = report.write_report(tmp_path, summary).read_text()
    checker = check(text)
    assert not {"script", "i", "img"} & set(checker.tags)


def test_the_videos_shown_are_chosen_by_the_stated_rule():
    assert report.chosen_seeds([True, False, True, False, False, False]) == [1, 3, 4]
    assert report.chosen_seeds([True, False, True]) == [0, 1, 2]
    assert report.chosen_seeds([True] * 9) == [0, 1, 2]
    assert report.chosen_seeds([]) == []


def test_the_command_to_repeat_leaves_out_defaults_that_say_nothing():
    config = {
        "cells": ["shopfloor/Kitting-v0"],
        "smoke": True,
        "control": False,
        "steps": None,
        "scenes": 0,
        "seed": 4,
    }
    assert (
        report.command_line(config)
        == "shopfloor flywheel --cells Kitting --smoke --seed 4 --out OUT"
    )


@pytest.mark.parametrize("choice", _CHOICES, ids=lambda choice: choice[1])
def test_each_codec_makes_a_video_that_decodes(choice):
    container, codec, _, options = choice
    data = _encode_with(frames(), 20, container, codec, options)
    if data is None:
        assert codec == "libx264", (
            f"this build of FFmpeg lacks {codec}"
        )  # the wheel may come without it
        return
    with av.open(io.BytesIO(data)) as file:
        decoded = [frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]
    assert len(decoded) == 12
    assert decoded[0].shape == (32, 32, 3)
    assert abs(int(decoded[-1].mean()) - 88) < 12


def test_an_unknown_codec_is_skipped():
    assert _encode_with(frames(), 20, "webm", "no_such_codec", {}) is None


def test_without_any_codec_it_is_an_animated_picture(monkeypatch):
    monkeypatch.setattr("shopfloor.launch.pages.video._CHOICES", ())
    media_type, data = encode(frames())
    assert (media_type, data[:4], data[8:12]) == ("image/webp", b"RIFF", b"WEBP")
    assert '<img src="data:image/webp' in video_tag(frames(), "x")
    assert _animated_webp(frames(2), 20)[:4] == b"RIFF"


def test_a_video_is_labelled():
    assert 'aria-label="a &quot;b&quot;"' in video_tag(frames(), 'a "b"')


def test_charts_are_named_and_in_range():
    series = [Series("in service", "s0", [Point(0, 0.0, 0.0, 0.1), Point(1, 1.0, 0.9, 1.0)])]
    chart = success_chart("Success <now>", ["a", "b"], series)
    check(chart)
    assert 'aria-label="Success &lt;now&gt;"' in chart
    ys = [float(y) for y in re.findall(r'cy="([\d.]+)"', chart)]
    assert ys == [224.0, 24.0]
    bars = stacked_bars("bars", [("one", {"a": 3, "b": 0}), ("none", {})], {"a": "s0", "b": "s1"})
    check(bars)
    assert bars.count("<rect") == 1
    check(time_series("series", ["x", "y"], [[0.0, 1.0], [0.5, 0.5]]))
    check(time_series("flat", ["x"], [[1.0]]))


def test_pages_are_escaped():
    assert "<title>a &lt; b</title>" in page("a < b", [])
