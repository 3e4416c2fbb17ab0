"""How does a run's report become the record that pages quote? Without values per item, pictures beside it.

    python tests/house/record.py runs/tiny-512-4k-yarn

writes docs/results/tiny-512-4k-yarn.json and the pictures.
"""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parents[2] / "docs" / "results"


def record(run_dir: Path) -> Path:
    """Write the record of a run, with the length and losses of its training."""
    report: dict[str, Any] = json.loads((run_dir / "report.json").read_text())
    del report["evaluations"]
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    report["training"] = {
        "steps": len(lines),
        "tokens": lines[-1]["tokens"],
        "seconds": sum(line["seconds"] for line in lines),
        "first_loss": lines[0]["loss"],
        "last_loss": lines[-1]["loss"],
    }
    RESULTS.mkdir(parents=True, exist_ok=True)
    for picture in run_dir.glob("*.png"):
        shutil.copy(picture, RESULTS / picture.name)
    target = RESULTS / f"{run_dir.name}.json"
    target.write_text(json.dumps(report, indent=1) + "\n")
    return target


if __name__ == "__main__":
    sys.stdout.write(f"{record(Path(sys.argv[1]))}\n")
