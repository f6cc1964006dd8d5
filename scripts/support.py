"""Write the support matrix into docs/support.md: the laws run in every cell of it.

The tests run the same cells and compare them with the page.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "support.md"
BEGIN, END = "<!-- matrix: begin -->", "<!-- matrix: end -->"

if __name__ == "__main__":
    sys.path.insert(0, str(ROOT / "tests"))
    import conftest  # noqa: F401  one thread, offline
    from cells import table

    text = PAGE.read_text(encoding="utf-8")
    fresh = f"{BEGIN}\n\n{table()}\n\n{END}"
    PAGE.write_text(re.sub(f"{BEGIN}.*{END}", lambda _: fresh, text, flags=re.DOTALL), "utf-8")
