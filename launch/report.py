from pathlib import Path


def write_report(out, summary):
    (Path(out) / "report.html").write_text("x")
