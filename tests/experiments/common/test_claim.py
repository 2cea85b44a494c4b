"""A claim names a place that its paper can have, or says that none is known."""

import pytest

from experiments.common.claim import BLINDNESS, OWN_QUESTION, SECTION_UNKNOWN, Claim


def claim_at(place: str) -> Claim:
    return Claim(BLINDNESS, place, "None survives.", "all of it", "1 batch", "not reproduced")


@pytest.mark.parametrize(
    "place",
    [
        "abstract",
        "abstract and Fig. 1",
        "Fig. 4",
        "section 2.2 and Fig. 2",
        "appendix B",
        "theorem C.1 (…)",
        SECTION_UNKNOWN,
        OWN_QUESTION,
    ],
)
def test_a_place_is_one_of_the_paper_or_said_to_be_unknown(place):
    assert claim_at(place).to_row()["place"] == place


@pytest.mark.parametrize(
    "place", ["", "four losses", "abstract; beyond it, over training", "section", "section somewhere", "Fig. unknown"]
)
def test_what_is_no_place_of_a_paper_is_refused(place):
    with pytest.raises(ValueError, match="needs to be one that the paper has"):
        claim_at(place)
