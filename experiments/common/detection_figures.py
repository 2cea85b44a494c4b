"""How does a detector learn, and what does it find? The figures of `experiments.detection`."""

from typing import TYPE_CHECKING, Any

from experiments.common.averages import left_out

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# What is found with such a probability is drawn.
SHOWN_FROM = 0.5


def figures(results: dict[str, Any], config: dict[str, Any]) -> "dict[str, Figure]":
    """Draw average precision and collapsed filters along training, where the latter are, and the boxes in scenes."""
    from bnjax.reporting.figures import boxes_on_images, lines

    setting = (
        f"{results['data']}; detector of width {config['width']}, {config['optimizer']} at {config['learning_rate']:g} "
        f"falling to 0, weight decay {config['weight_decay']:g}, batches of {config['batch_size']}"
    )
    seeds = f"mean and standard deviation over {config['seeds']} seeds from {config['seed']}{left_out(results)}"
    precisions = [
        {**row, "measure": label, "precision": row[key], "spread": row[f"{key}_std"]}
        for key, label in (("ap", "AP, IoU 0.5 … 0.95"), ("ap50", "AP50, IoU 0.5"))
        for row in results["curves"]
    ]
    return {
        "average_precision": lines(
            precisions,
            x="epoch",
            y="precision",
            spread="spread",
            series="normalizer",
            panels="measure",
            y_label="average precision on test scenes",
            title="How well the detector finds and places objects",
            caption=f"{setting}; {seeds}; running statistics",
        ),
        "collapsed": lines(
            results["curves"],
            x="epoch",
            y="collapsed",
            spread="collapsed_std",
            series="normalizer",
            y_label="collapsed share of the filters",
            title="Filters that the detector loses along training",
            caption=f"{setting}; {seeds}; on all training scenes, running statistics",
        ),
        "layers": lines(
            results["layers"],
            x="layer",
            y="share",
            spread="share_std",
            series="normalizer",
            x_label="normalizer, from the input on (the last ones: the branches of classes and of boxes)",
            y_label="collapsed share of its filters",
            title="The layers in which the detector loses filters",
            caption=f"{setting}, {config['epochs']} epochs; {seeds}; on all training scenes, running statistics",
        ),
        "scenes": boxes_on_images(
            results["images"],
            results["there"],
            {name: [row for row in results["found"] if row["normalizer"] == name] for name in config["normalizers"]},
            title="What is found in test scenes",
            caption=f"{setting}, {config['epochs']} epochs, seed {config['seed']}; label and probability, from "
            f"{SHOWN_FROM} on",
        ),
    }
