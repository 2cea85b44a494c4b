import pytest

from experiments.own.figures import figures

CONFIG = {"model": "mine:Model", "model_options": "", "rows": 4, "seed": 0, "statistics": "held", "probes": None}


@pytest.mark.parametrize(("smallest", "scale"), [(0.8, "linear"), (0.08, "log"), (0.0, "log")])
def test_survivals_of_one_decade_stand_on_a_linear_axis(smallest, scale):
    shared = {"epoch": 0, "layer": "BatchNorm_0", "part": "individual"}
    table = [{**shared, "term": term, "survival": value} for term, value in (("gradient", 1.0), ("diagonal", smallest))]
    drawn = figures({"table": table, "data": "digits"}, {**CONFIG, "variables": None})
    assert drawn["survival_individual"].axes[0].get_xscale() == scale
