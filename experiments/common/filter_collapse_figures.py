"""How does the loss of filters look? The figures of `experiments.filter_collapse`."""

from typing import TYPE_CHECKING, Any

from experiments.common.averages import left_out

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def figures(results: dict[str, Any], config: dict[str, Any]) -> "dict[str, Figure]":
    """Draw collapsed share and accuracy against the learning rate, the share along training, and the distributions."""
    from bnjax.reporting.figures import lines

    steps = config["epochs"] * config["stretch"]
    caption = (
        f"{results['data']}; {config['model']}, {steps} steps of {config['batch_size']} rows, weight decay "
        f"{config['weight_decay']:g}{'; Adam at a tenth of the rate' if 'adam' in config['optimizers'] else ''}; mean "
        f"and standard deviation over {config['seeds']} seeds from {config['seed']}{left_out(results)}"
    )
    series = "normalizer, start"

    def labelled(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{**row, series: f"{row['normalizer']}, {row['start'].replace('_', ' ')}"} for row in rows]

    drawn = {
        measure: lines(
            labelled(results["table"]),
            x="learning_rate",
            y=measure,
            spread=f"{measure}_std",
            series=series,
            panels="optimizer",
            log_x=True,
            x_label="learning rate",
            y_label=label,
            title=title,
            caption=caption,
        )
        for measure, label, title in (
            ("collapsed", "collapsed share of the filters", "How many filters are lost"),
            ("test_accuracy", "test accuracy, running statistics", "Accuracy of networks that lose filters"),
        )
    }
    for start in config["starts"]:
        own = [row for row in results["curves"] if row["start"] == start]
        drawn[f"curves_{start}"] = lines(
            [{**row, "normalizer, rate": f"{row['normalizer']}, {row['learning_rate']:g}"} for row in own],
            x="step",
            y="collapsed",
            spread="collapsed_std",
            series="normalizer, rate",
            panels="optimizer",
            x_label="training step",
            y_label="collapsed share of the filters",
            title=f"Filters that are lost along training ({start.replace('_', ' ')})",
            caption=caption,
        )
    for quantity, label in (("margin", "margin of a filter"), ("scale", "scale γ of a filter")):
        largest = max(config["learning_rates"])
        own = [row for row in results["histograms"] if (row["quantity"], row["learning_rate"]) == (quantity, largest)]
        if own:
            drawn[quantity] = lines(
                labelled(own),
                x="at",
                y="share",
                series=series,
                panels="optimizer",
                x_label=label,
                y_label="share of the filters",
                title=f"How {quantity}s are distributed at the largest learning rate",
                caption=f"{caption}; the outermost bins hold what is beyond",
            )
    return drawn
