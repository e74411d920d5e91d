"""Check an installed autocompress: its folders import as autocompress.* and by no other name, and its data came along."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
from pathlib import Path

FOLDERS = ("compressors", "deployment", "evaluators", "kernels", "reports", "search", "spaces", "tasks")

package = importlib.import_module("autocompress")
for folder in FOLDERS:
    importlib.import_module(f"autocompress.{folder}")
    assert importlib.util.find_spec(folder) is None, f"`import {folder}` works: only autocompress.{folder} should"
assert importlib.metadata.version("autocompress") == package.__version__

targets = importlib.import_module("autocompress.kernels.targets")
assert "pixel7" in targets.list_targets()
table = importlib.import_module("autocompress.kernels.table").LatencyTable.for_target(targets.load_target("pixel7"))
assert table.source in ("measured", "modelled")
home = Path(package.__path__[0])
weights = home / "tasks" / "weights"
assert list(weights.glob("*.safetensors")), f"no weights in {weights}"
sources = importlib.import_module("autocompress.kernels.toolchain").SOURCES
assert list(sources.glob("*.c")), f"no kernels in {sources}"
print(f"autocompress {package.__version__} works from {home.parent.name}/{home.name}")
