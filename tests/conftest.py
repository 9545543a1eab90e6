"""Shared fixtures. Under pytest every annotated shape and type of the package is checked at run time."""

import sys
from pathlib import Path
from types import ModuleType

import jaxtyping
import pytest
import torch
from beartype import BeartypeConf, beartype
from jaxtyping import install_import_hook

# The hook takes its checker by name, and this one lets an integer stand for a float, as PEP 484 does.
_checker = sys.modules["bnnpriors_checker"] = ModuleType("bnnpriors_checker")
_checker.check = beartype(conf=BeartypeConf(is_pep484_tower=True))  # type: ignore[attr-defined]
install_import_hook("bnnpriors", "bnnpriors_checker.check")  # before any test imports the package

torch.set_num_threads(1)  # the tensors of the tests are small: more threads cost more than they give

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture
def as_a_user_meets_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the checker of types, so that wrong ones meet the package's own messages."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data next to the repository; the test is skipped where it is absent."""
    folder = REPOSITORY.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(
            f"needs the data folder ../shared/data next to the repository ({REPOSITORY.name}); it is absent here"
        )
    return folder


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip the tests marked `gpu` where there is no CUDA device."""
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if marked and not torch.cuda.is_available():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device; torch sees none"))
