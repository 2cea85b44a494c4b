"""What tells runs apart, so that none goes on in the folder of another."""

from functools import partial
from typing import Any

import optax
import pytest

from bnjax.data import digits, random_batches, single_class_batches
from bnjax.models import MLP
from bnjax.normalizers import layer_norm
from bnjax.training import Recipe, require_resumable, train
from bnjax.training.checks import identity_of, record_run
from tests.training.plain_run import plain_run


def test_a_folder_of_another_run_or_of_more_epochs_is_refused(tmp_path):
    plain_run(directory=str(tmp_path), epochs=2)
    with pytest.raises(ValueError, match=r"holds another run, with seed 0 instead of 7; choose another folder"):
        plain_run(directory=tmp_path, epochs=3, seed=7)
    with pytest.raises(ValueError, match="at least the 2 that"):
        plain_run(directory=tmp_path, epochs=1)


def stretched(loss, factor, logits, labels):
    return factor * loss(logits, labels)


OTHERS = {
    "epsilon": (Recipe(MLP((8,), norm=layer_norm(epsilon=1e-3)), optax.sgd(0.1)), {}, "epsilon=0.001"),
    "rate": (Recipe(MLP((8,), norm=layer_norm()), optax.sgd(0.2)), {}, "optimizer"),
    "momentum": (Recipe(MLP((8,), norm=layer_norm()), optax.sgd(0.1, 0.9)), {}, "optimizer"),
    "optimizer": (Recipe(MLP((8,), norm=layer_norm()), optax.adam(0.1)), {}, "optimizer"),
    "loss": (
        Recipe(MLP((8,), norm=layer_norm()), optax.sgd(0.1), partial(stretched, optax.squared_error, 2.0)),
        {},
        "stretched.*2.0",
    ),
    "order": (Recipe(MLP((8,), norm=layer_norm()), optax.sgd(0.1)), {"order": single_class_batches}, "order"),
}


@pytest.mark.parametrize(("other", "change", "complaint"), OTHERS.values(), ids=list(OTHERS))
def test_a_run_that_differs_in_one_choice_does_not_go_on_in_the_folder_of_another(tmp_path, other, change, complaint):
    data, recipe = digits(train=False), Recipe(MLP((8,), norm=layer_norm()), optax.sgd(0.1))
    options: dict[str, Any] = {"batch_size": 20, "seed": 0, "order": random_batches, "epochs": 1}
    record_run(
        tmp_path, identity_of(recipe, data, data, **{key: options[key] for key in ("batch_size", "seed", "order")})
    )
    require_resumable(tmp_path, recipe, data, data, **options)
    with pytest.raises(ValueError, match=f"holds another run, with .*{complaint}"):
        require_resumable(tmp_path, other, data, data, **(options | change))


def test_data_of_the_same_name_and_shape_but_other_contents_is_other_data(tmp_path):
    data = digits(train=False).first(64)
    plain_run(train_data=data, directory=tmp_path)
    with pytest.raises(ValueError, match="holds another run, with training images"):
        plain_run(train_data=data._replace(images=data.images[::-1].copy()), directory=tmp_path)


def test_a_folder_can_be_asked_whether_it_holds_another_run_without_being_claimed(tmp_path):
    data, recipe = digits(train=False), Recipe(MLP((8,)), optax.sgd(0.1))
    options: dict[str, Any] = {"batch_size": 50, "epochs": 1, "seed": 0, "order": random_batches}
    require_resumable(tmp_path, recipe, data, data, **options)
    assert not list(tmp_path.iterdir())
    train(recipe, data, data, directory=tmp_path, **options)
    require_resumable(tmp_path, recipe, data, data, **options)
    other = Recipe(MLP((8,), norm=layer_norm()), optax.sgd(0.1))
    with pytest.raises(ValueError, match=r"normalizer identity.* instead of .*normalizer layer_norm"):
        require_resumable(tmp_path, other, data, data, **options)


def test_what_tells_runs_apart_is_the_same_in_another_process():
    bound = partial(stretched, optax.squared_error, 2.0)
    data, recipe = digits(train=False), Recipe(MLP((8,)), optax.sgd(0.1), bound)
    identity = identity_of(recipe, data, data, order=random_batches, batch_size=20, seed=0)
    assert identity["loss, augmentation, score"] == ["stretched(squared_error, 2.0)", "None", "accuracy"]
    assert " at 0x" not in str(identity)
