"""Compiles the C++ part when the package is installed; where that fails, the package is installed without it.

`python hatch_build.py` compiles it in place, for a checkout that is used without being installed.
"""

from __future__ import annotations

import os
import runpy
import shutil
import subprocess
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ImportError:  # run as a script
    BuildHookInterface = object

ROOT = Path(__file__).resolve().parent


def compile_library() -> Path:
    """The library, from the sources beside it.

    Raises:
        OSError: there is no compiler, or it fails; with what it said.
    """
    recipe = runpy.run_path(str(ROOT / "bnnpriors" / "extension.py"))
    compiler = os.environ.get("CXX") or next(filter(None, map(shutil.which, ("g++", "clang++", "c++"))), None)
    if compiler is None:
        raise OSError("no C++ compiler was found (g++, clang++ or the one that CXX names)")
    library = Path(recipe["LIBRARY"])
    with tempfile.TemporaryDirectory(
        dir=library.parent
    ) as folder:  # on the same disk: it appears complete or not at all
        made = Path(folder) / library.name
        for command in recipe["commands"](compiler, made):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise OSError(f"{compiler} failed:\n{done.stderr[-2000:]}")
        made.replace(library)
    return library


class CustomBuildHook(BuildHookInterface):  # type: ignore[misc, valid-type]
    """What hatchling runs before it collects the files of a wheel, or of an editable installation."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the library to the wheel, which is then one for this platform and any Python."""
        if self.target_name != "wheel":
            return
        try:
            library = compile_library()
        except OSError as error:
            self.app.display_warning(
                f"bnnpriors: installed without its C++ part, which torch replaces: {error}"
            )
            return
        build_data["artifacts"].append(str(library.relative_to(ROOT)))
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{sysconfig.get_platform().replace('-', '_').replace('.', '_')}"


if __name__ == "__main__":
    print(compile_library())
