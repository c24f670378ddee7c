"""Make what pages draw their charts with again: `python tools/vega.py`.

After a change of `keywatch.report.charts`, or of the version of Altair or of the converter. A test
(`tests/report/test_charts.py`) fails until it has been run.
"""

from __future__ import annotations

import json
from pathlib import Path

import vl_convert

from keywatch.report import charts

FOLDER = Path(__file__).resolve().parents[1] / "src/keywatch/report/vega"


def files() -> dict[str, str]:
    """The text of each file, by its name."""
    bundle: str = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    # Inside a script element only these could end it, or start a comment.
    safe = bundle.replace("</script", "<\\/script").replace("<!--", "<\\!--")
    compiled = json.dumps(charts.vega_specifications(), ensure_ascii=True, sort_keys=True)
    return {"vega.js": safe, "specifications.json": compiled + "\n"}


if __name__ == "__main__":
    for name, text in files().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
        print(f"{FOLDER / name}: {len(text):,} characters")
