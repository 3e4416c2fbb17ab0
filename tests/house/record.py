"""How does a run's report become the record that pages quote? Without values per item, pictures beside it.

    python tests/house/record.py runs/tiny-512-4k-yarn      (or runs/compare-tiny)

writes docs/results/tiny-512-4k-yarn.json and the pictures.
"""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parents[2] / "docs" / "results"


def record(run_dir: Path) -> Path:
    """Write the record of a run or a comparison, a run's with the length and losses of its training."""
    report: dict[str, Any] = json.loads((run_dir / "report.json").read_text())
    report.pop("evaluations", None)
    if (run_dir / "metrics.jsonl").exists():
        report["training"] = training(run_dir / "metrics.jsonl")
    RESULTS.mkdir(parents=True, exist_ok=True)
    for picture in run_dir.glob("*.png"):
        shutil.copy(picture, RESULTS / picture.name)
    target = RESULTS / f"{run_dir.name}.json"
    target.write_text(json.dumps(report, indent=1) + "\n")
    return target


def training(metrics: Path) -> dict[str, Any]:
    """Sum up the steps of a run."""
    lines = [json.loads(line) for line in metrics.read_text().splitlines()]
    return {
        "steps": len(lines),
        "tokens": lines[-1]["tokens"],
        "seconds": sum(line["seconds"] for line in lines),
        "first_loss": lines[0]["loss"],
        "last_loss": lines[-1]["loss"],
    }


if __name__ == "__main__":
    sys.stdout.write(f"{record(Path(sys.argv[1]))}\n")
