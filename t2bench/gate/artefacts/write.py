"""Writing what CI shows of a gate into one folder."""

from __future__ import annotations

from pathlib import Path

from t2bench.gate.artefacts.annotations import workflow_commands
from t2bench.gate.artefacts.badge import badge_json, badge_svg
from t2bench.gate.artefacts.junit import junit
from t2bench.gate.artefacts.markdown import comment, summary
from t2bench.gate.results import GateReport
from t2bench.records import write_atomically


def write_artefacts(report: GateReport, directory: Path) -> tuple[Path, ...]:
    """Write gate.json, summary.md, comment.md, annotations.txt, junit.xml, badge.svg and badge.json.

    Args:
        report: the verdict.
        directory: made if it is not there.

    Returns:
        The files, gate.json first.

    Raises:
        OSError: the directory cannot be written.
    """
    directory.mkdir(parents=True, exist_ok=True)
    texts = {
        "summary.md": summary(report),
        "comment.md": comment(report),
        "annotations.txt": "".join(f"{line}\n" for line in workflow_commands(report)),
        "junit.xml": junit(report),
        "badge.svg": badge_svg(report),
        "badge.json": badge_json(report),
    }
    for name, text in texts.items():
        write_atomically(directory / name, text)
    return (report.save(directory), *(directory / name for name in texts))
