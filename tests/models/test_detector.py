"""The detector's positions, its loss and what it finds are what slow, plain computations say."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from bnjax.boxes import boxes_around, generalized_iou, intersection_over_union, side_distances
from bnjax.models import detection
from bnjax.models.detection import Detector, Predictions
from bnjax.models.detection.detector import PRIOR, position_centres
from bnjax.normalizers import batch_norm, identity
from tests.comparison import assert_close

# Uncompiled, each of their operations would be a program of its own.
assigned_objects = jax.jit(detection.assigned_objects, static_argnames="radius")
detection_loss = jax.jit(detection.detection_loss, static_argnames="radius")
recall = jax.jit(detection.recall)
detections = jax.jit(detection.detections, static_argnames="most")
unsuppressed = jax.jit(detection.unsuppressed, static_argnames="overlap")

CENTRES = np.asarray(jax.jit(partial(position_centres, 8, 8, 4))())
# Label and box; the second lies inside of the first, the third is none.
TARGETS = np.array([[3.0, 2, 2, 30, 26], [1, 8, 8, 20, 18], [-1, 0, 0, 32, 32]])
RADIUS = 6.0


@pytest.fixture(scope="module")
def detected():
    model = Detector(classes=3, norm=batch_norm(), width=2)
    images = np.random.default_rng(0).normal(size=(2, 16, 24, 1))
    variables = jax.jit(model.init)(jax.random.key(1), images)
    detect = jax.jit(partial(model.apply, variables, mode="running"))
    return model, detect, images, detect(images)


@jax.jit
def predictions(*, logits=0.0, distances=4.0):
    """Return what a detector of 4 classes says of an image, everywhere the same."""
    around = boxes_around(CENTRES, jnp.full((1, len(CENTRES), 4), distances))
    return Predictions(jnp.full((1, len(CENTRES), 4), logits), around, jnp.asarray(CENTRES))


def test_every_cell_of_stride_pixels_has_a_position_in_its_middle(detected):
    model, _, images, found = detected
    assert model.stride == 4
    assert found.logits.shape == (2, 16 // 4 * (24 // 4), 3)
    np.testing.assert_array_equal(found.centres[:2], [[2, 2], [6, 2]])
    np.testing.assert_array_equal(found.centres[-1], [22, 14])
    assert len(found.centres) == found.boxes.shape[1] == images[0].size // 16


def test_boxes_hold_their_position_and_an_object_is_unlikely_before_training(detected):
    *_, found = detected
    assert np.min(side_distances(np.asarray(found.centres), np.asarray(found.boxes))) > 0
    assert np.mean(1 / (1 + np.exp(-np.asarray(found.logits)))) == pytest.approx(PRIOR, rel=1)


def test_a_position_sees_what_lies_around_it(detected):
    _, detect, *_ = detected
    images = np.random.default_rng(2).normal(size=(1, 8, 96, 1))
    found, moved = detect(images), detect(images + (np.arange(96) == 48)[:, None])
    changed = np.asarray(found.centres)[np.any(moved.logits != np.asarray(found.logits), axis=(0, 2)), 0]
    assert np.max(np.abs(changed - 48)) < 32
    assert np.min(np.abs(changed - 48)) < 4


def test_images_that_the_stride_does_not_divide_are_refused():
    with pytest.raises(ValueError, match=r"a detector of stride 4 needs images .* got 16×18"):
        Detector().init(jax.random.key(0), jnp.zeros((1, 16, 18, 1)))


def test_a_position_is_assigned_the_smallest_box_around_it_whose_centre_is_near():
    assigned = assigned_objects(CENTRES, TARGETS, radius=RADIUS)
    for (x, y), found in zip(CENTRES, np.asarray(assigned), strict=True):
        fits = [
            ((x1 - x0) * (y1 - y0), row)
            for row, (label, x0, y0, x1, y1) in enumerate(TARGETS)
            if label >= 0
            and x0 < x < x1
            and y0 < y < y1
            and max(abs(x - (x0 + x1) / 2), abs(y - (y0 + y1) / 2)) < RADIUS
        ]
        assert found == min(fits, default=(0, -1))[1]
    assert set(np.asarray(assigned)) == {-1, 0, 1}


def test_focal_loss_without_focus_is_half_of_the_cross_entropy():
    logits, labels = np.linspace(-5, 5, 11), np.arange(11) % 2
    focal = jax.jit(optax.sigmoid_focal_loss)(logits, labels, alpha=0.5, gamma=0.0)
    assert_close(2 * np.asarray(focal), jax.jit(optax.sigmoid_binary_cross_entropy)(logits, labels))


def test_the_loss_is_that_of_a_loop_over_positions_and_classes():
    generator, made = np.random.default_rng(2), predictions()
    made = made._replace(
        logits=generator.normal(size=made.logits.shape),
        boxes=np.asarray(made.boxes) + generator.uniform(-1.0, 1.0, made.boxes.shape),
    )
    assigned = np.asarray(assigned_objects(CENTRES, TARGETS, radius=RADIUS))
    total = 0.0
    for position, found in enumerate(assigned):
        for label, logit in enumerate(made.logits[0, position]):
            there = found >= 0 and int(TARGETS[found, 0]) == label
            p = 1 / (1 + np.exp(-logit if there else logit))
            total -= (0.25 if there else 0.75) * (1 - p) ** 2 * np.log(p)
        if found >= 0:
            total += 1 - float(generalized_iou(made.boxes[0, position], TARGETS[found, 1:]))
    (loss,) = detection_loss(made, TARGETS[None], radius=RADIUS)
    assert float(loss) == pytest.approx(total / np.sum(assigned >= 0), rel=1e-12)


def test_right_predictions_have_a_loss_of_zero_and_find_everything():
    assigned = np.asarray(assigned_objects(CENTRES, TARGETS, radius=RADIUS))
    true = TARGETS[assigned]
    right = (assigned >= 0)[:, None] & (np.arange(4) == true[:, :1])
    perfect = predictions()._replace(logits=np.where(right, 50.0, -50.0)[None], boxes=true[None, :, 1:])
    assert float(detection_loss(perfect, TARGETS[None], radius=RADIUS)[0]) < 1e-12
    assert recall(perfect, TARGETS[None]).tolist() == [1.0]
    assert recall(perfect._replace(logits=perfect.logits - 100), TARGETS[None]).tolist() == [0.0]


def test_without_an_object_the_loss_is_that_of_the_classes_alone_and_finite_in_its_gradient():
    nothing = np.full((1, 2, 5), -1.0)

    def loss(logit, distance):
        return detection_loss(predictions(logits=logit, distances=distance), nothing, radius=RADIUS)[0]

    value, slopes = jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))(0.0, 4.0)
    assert float(value) == pytest.approx(len(CENTRES) * 4 * 0.75 / 4 * np.log(2))
    assert slopes[0] > 0
    assert slopes[1] == 0
    assert recall(predictions(), nothing).tolist() == [0.0]


def test_suppression_keeps_what_a_slow_loop_keeps():
    generator = np.random.default_rng(0)
    corner = generator.uniform(0, 10, (40, 2))
    boxes = np.concatenate([corner, corner + generator.uniform(3, 8, (40, 2))], axis=1)
    labels = generator.integers(0, 2, 40)
    kept: list[int] = []
    for index in range(40):
        if all(
            labels[other] != labels[index] or intersection_over_union(boxes[other], boxes[index]) <= 0.4
            for other in kept
        ):
            kept.append(index)
    found = unsuppressed(boxes, labels, overlap=0.4)
    assert np.flatnonzero(found).tolist() == kept
    assert 2 < len(kept) < 40


def test_what_is_found_is_each_object_once_the_likeliest_first():
    made = predictions(logits=-9.0)
    near = np.argmin(np.sum(np.abs(CENTRES - 14.0), axis=1))
    far = len(CENTRES) - 1
    logits, boxes = np.array(made.logits), np.array(made.boxes)
    logits[0, [near, near + 1, far], [2, 2, 0]] = 2.0, 1.0, 0.0
    boxes[0, near + 1] = boxes[0, near] + 0.5
    found = detections(made._replace(logits=logits, boxes=boxes), most=10)
    (found_boxes,), (scores,), (labels,) = (np.asarray(part) for part in found)
    assert_close(scores[scores > 0], 1 / (1 + np.exp([-2.0, -0.0])))
    assert labels[scores > 0].tolist() == [2, 0]
    np.testing.assert_array_equal(found_boxes[scores > 0], boxes[0, [near, far]])


def test_no_more_is_looked_at_than_there_is():
    assert detections(predictions(), most=10**6).scores.shape == (1, len(CENTRES) * 4)


def test_any_normalizer_will_do():
    model = Detector(classes=2, norm=identity(), width=2, halvings=1, depth=1)
    variables = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 8, 8, 1)))
    assert set(variables) == {"params"}
