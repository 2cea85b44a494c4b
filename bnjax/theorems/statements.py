"""Which statements are there? The numbered list that `experiments.verify_theorems` and the tests go through."""

import math
from functools import partial

from bnjax.compilation import in_full_precision
from bnjax.normalizers import (
    batch_norm,
    batch_renorm,
    detached_batch_norm,
    frozen_batch_norm,
    ghost_batch_norm,
    group_norm,
    identity,
    instance_norm,
    layer_norm,
    lp_norm,
    noisy_batch_norm,
    post_shifted_batch_norm,
    rms_norm,
)
from bnjax.normalizers.normalizer import Normalizer
from bnjax.theorems import blindness, blocked_spaces, collapse, smoothness
from bnjax.theorems.blocked_spaces import BlockedSpace
from bnjax.theorems.statement import Statement

# Settings that the statements hold for at every epsilon are checked at.
EPSILONS = (0.0, 0.3)
# Epsilon-free, affine: what most statements are about, and the one that lets everything through.
_EXACT, _OPEN = batch_norm(epsilon=0.0), detached_batch_norm(epsilon=0.0)


def _at_every_epsilon(name: str, claim: str, check) -> list[Statement]:
    return [
        Statement(
            name if epsilon == 0 else f"{name} (ε = {epsilon})",
            claim,
            partial(check, epsilon=epsilon),
            batch_norm(epsilon=epsilon),
            detached_batch_norm(epsilon=epsilon),
        )
        for epsilon in EPSILONS
    ]


def _blocked(normalizer: Normalizer, groups, *, centres=True, spread=blocked_spaces.root_mean_square):
    space = BlockedSpace(groups, centres, spread)
    check = partial(blocked_spaces.blocked_space, space=space)
    return Statement(f"N {normalizer.name}", "what it blocks and what it passes", check, normalizer, _OPEN)


def _passes(normalizer: Normalizer) -> Statement:
    return Statement(f"N {normalizer.name}", "blocks nothing", blocked_spaces.everything_passes, normalizer, _EXACT)


BLINDNESS = [
    *_at_every_epsilon("J", "first derivative of the standardization", blindness.first_derivative),
    *_at_every_epsilon("J2", "second derivative", blindness.second_derivative_of_standardization),
    *_at_every_epsilon("T1", "the shared gradient term is constant", blindness.shared_gradient_term),
    *_at_every_epsilon("T2", "the shared diagonal term is constant at ε = 0", blindness.shared_diagonal_term),
    Statement("T3", "of the off-diagonal term 1 - ρ² gets through", blindness.off_diagonal_term, _EXACT, _OPEN),
    Statement("T4", "pure powers above the second get through", blindness.pure_powers, _EXACT, _OPEN),
    Statement("T5 affine", "the affine phase unblocks nothing", blindness.affine_phase, _EXACT, _OPEN),
    Statement(
        "T5 constant",
        "constant statistics block nothing",
        blocked_spaces.everything_passes,
        frozen_batch_norm(epsilon=0.0),
        _EXACT,
    ),
    *_at_every_epsilon("T6", "how a term's Hessian is carried back", blindness.transported_hessian),
    *_at_every_epsilon("T7", "what is removed goes to β and γ", blindness.removed_gradient),
]

BLOCKED_SPACES = [
    _blocked(layer_norm(epsilon=0.0), blocked_spaces.by_row_and_position),
    _blocked(rms_norm(epsilon=0.0), blocked_spaces.by_row_and_position, centres=False),
    _blocked(group_norm(groups=2, epsilon=0.0), blocked_spaces.by_row_and_feature_group(2)),
    _blocked(instance_norm(epsilon=0.0), blocked_spaces.by_row_and_feature),
    _blocked(lp_norm(p=1, epsilon=0.0), blocked_spaces.by_feature, spread=blocked_spaces.mean_absolute),
    _blocked(lp_norm(p=2, epsilon=0.0), blocked_spaces.by_feature),
    _blocked(lp_norm(p=math.inf, epsilon=0.0), blocked_spaces.by_feature, spread=blocked_spaces.maximum_absolute),
    _blocked(ghost_batch_norm(ghost_size=4, epsilon=0.0), blocked_spaces.by_ghost_and_feature(4)),
    _blocked(batch_renorm(epsilon=0.0), blocked_spaces.by_feature),
    _blocked(noisy_batch_norm(epsilon=0.0), blocked_spaces.by_feature),
    _blocked(post_shifted_batch_norm(epsilon=0.0), blocked_spaces.by_feature),
    _passes(detached_batch_norm(epsilon=0.0)),
    _passes(frozen_batch_norm(epsilon=0.0)),
    _passes(identity()),
    Statement(
        "N batch_renorm, differentiated",
        "inside its clip range r and d undo the batch statistics: blocks nothing",
        blocked_spaces.everything_passes,
        batch_renorm(r_max=1e9, d_max=1e9, stop_gradient=False, epsilon=0.0),
        batch_renorm(r_max=1e9, d_max=1e9, epsilon=0.0),
    ),
]

SMOOTHNESS = [
    Statement("S1", "gradient norm before the normalizer", smoothness.gradient_norm, _EXACT, _OPEN),
    Statement("S1", "theorem 4.1", smoothness.gradient_norm_printed, _EXACT, _OPEN, "<=", "printed"),
    Statement("S2", "curvature along the gradient", smoothness.gradient_curvature, _EXACT, _OPEN),
    Statement("S2", "theorem 4.2", smoothness.gradient_curvature, _EXACT, _OPEN, "<=", "printed"),
    Statement(
        "S3", "smaller curvature if γ⟨g,ŷ⟩ ≥ 0", smoothness.smaller_curvature, _EXACT, lp_norm(p=1, epsilon=0.0), "<="
    ),
    Statement("S3", "theorem 4.2, second part", smoothness.smaller_curvature_printed, _EXACT, _OPEN, "<=", "printed"),
    Statement("S4", "largest weight gradient", smoothness.weight_gradient, _EXACT, _OPEN),
    Statement("S4", "theorem 4.4", smoothness.weight_gradient_printed, _EXACT, _OPEN, "<=", "printed"),
    Statement(
        "S4 curvature", "curvature in weight space, isometric inputs", smoothness.weight_curvature, _EXACT, _OPEN
    ),
    Statement("S5", "a nearer optimum", smoothness.nearest_optimum, _EXACT, frozen_batch_norm(epsilon=0.0)),
    Statement("S6", "the plain minima are kept", smoothness.kept_minima, _EXACT, batch_norm(epsilon=0.3)),
]

COLLAPSE = [
    Statement(
        "F1",
        "dead filters get no derivative",
        collapse.dead_region,
        _EXACT,
        post_shifted_batch_norm(shift=10.0, epsilon=0.0),
    ),
    Statement("F1 live", "live ones do", collapse.live_side, _EXACT, post_shifted_batch_norm(shift=-10.0, epsilon=0.0)),
    Statement(
        "F1 leaky",
        "leaky dead filters get a times the linear ones",
        collapse.leaky_dead_region,
        _EXACT,
        post_shifted_batch_norm(shift=10.0, epsilon=0.0),
    ),
]

STATEMENTS = tuple(
    statement._replace(check=in_full_precision(statement.check))
    for statement in (*BLINDNESS, *BLOCKED_SPACES, *SMOOTHNESS, *COLLAPSE)
)
