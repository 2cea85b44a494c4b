"""Settings of the whole test run: float64, the same hypothesis examples every time, and what runs beside what."""

import gc
import os
import signal
from collections.abc import Iterator
from typing import Any

import jax
import jaxtyping
import pytest
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadScopeScheduling

from bnjax.compilation import compile_sooner

# Four fifths of the time are compilation; processes that tests start compile alike. JAX_DISABLE_MOST_OPTIMIZATIONS=0
# tests the programs that users run, as .ci/run does with the core.
if os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1") != "0":
    compile_sooner()

jax.config.update("jax_enable_x64", True)
# JAX, imported already, does not look at the variable again.
jax.config.update("jax_disable_most_optimizations", os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] != "0")


def pytest_configure(config: pytest.Config) -> None:
    """Keep compiled programs for the next run and for processes that tests start; `--cache-clear` forgets them.

    Without pytest's cache, `-p no:cacheprovider`, nothing is kept.
    """
    cache = getattr(config, "cache", None)
    if cache is None:
        return
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache.mkdir("compiled")))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    jax.config.update("jax_compilation_cache_dir", os.environ["JAX_COMPILATION_CACHE_DIR"])
    jax.config.update(
        "jax_persistent_cache_min_compile_time_secs", float(os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"])
    )


def pytest_collection_finish() -> None:
    """Have Python look for garbage seldom, and not among what was imported: a sixth of the CPU time went there."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000)


settings.register_profile(
    "bnjax",
    deadline=None,  # The first example of a shape compiles.
    derandomize=True,
    max_examples=25,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("bnjax")


@pytest.fixture(scope="module", autouse=True)
def forget_programs() -> Iterator[None]:
    """Let go of what a file compiled: Linux maps 65,530 pieces of memory a process, and all programs take more."""
    yield
    jax.clear_caches()


@pytest.fixture
def signatures_are_not_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let bad input meet what a user meets: the library's own checks, not those of the test run."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


@pytest.fixture
def children_can_be_interrupted() -> Iterator[None]:
    """Have started processes heed SIGINT: what a shell runs in its background ignores it, and so would they."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


# Files of which every case is work of its own, that of one experiment or notebook; its tests have its name in brackets.
BY_CASE = ("tests/experiments/test_experiments.py", "tests/test_notebooks.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest cases, so that no process is left with one at the end."""
    items.sort(key=lambda item: not item.nodeid.startswith(BY_CASE))


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    """Keep the tests of a file, or of a case, in one process, for what they compile and share."""
    return ByFileOrCase(config, log)


class ByFileOrCase(LoadScopeScheduling):
    """Schedule whole files, and single cases of those in `BY_CASE`.

    The groups that pytest-xdist 3.8 knows are lost in pytest 9.2: a name added to a test is not seen.
    """

    def _split_scope(self, nodeid: str) -> str:
        file, _, test = nodeid.partition("::")
        return test.partition("[")[2] or test if file in BY_CASE else file
