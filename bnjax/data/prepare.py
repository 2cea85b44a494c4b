"""Prepare an image set from the web once, so that it can be read without TensorFlow and without a network.

    python -m bnjax.data.prepare mnist

TensorFlow Datasets downloads it, shows its progress and writes array_record files. An interrupted run leaves no
half-prepared set: the folder gets its name when it is complete, and downloads are kept for the next try.
"""

import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path

import tyro

from bnjax.data.prepared import data_directory, preparation


@dataclass(frozen=True)
class Config:
    """Prepare an image set from the web once, so that it can be read without TensorFlow and without a network."""

    name: tyro.conf.Positional[str]
    """The set's name in TensorFlow Datasets, such as mnist or cifar10."""
    data_dir: Path | None = None
    """The folder of prepared sets; by default that of the variable TFDS_DATA_DIR, else ~/tensorflow_datasets."""


def prepare(config: Config) -> Path:
    """Download and write the set, and return its folder.

    Raises:
        ModuleNotFoundError: TensorFlow, which encodes the images, is not installed.
    """
    directory = data_directory(config.data_dir)
    if importlib.util.find_spec("tensorflow") is None:
        raise ModuleNotFoundError(
            f"preparing {config.name} needs TensorFlow to encode its images (reading it does not); run\n"
            f"    pip install 'bnjax[prepare]'\n{preparation(config.name, directory)}"
        )
    import tensorflow_datasets as tfds

    builder = tfds.builder(config.name, data_dir=directory, file_format="array_record")
    builder.download_and_prepare()
    return Path(builder.data_dir)


def main() -> None:
    """Run from the command line; exit status 2 if something is missing, 130 if it was interrupted."""
    config = tyro.cli(Config, prog="python -m bnjax.data.prepare")
    try:
        print(f"prepared in {prepare(config)}")
    except KeyboardInterrupt:
        sys.exit(130)
    except (ImportError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
