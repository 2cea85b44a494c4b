from experiments.common.progress import progress


def test_progress_passes_everything_on_and_is_silent_without_a_terminal(capsys):
    assert list(progress(range(3), "counting")) == [0, 1, 2]
    assert capsys.readouterr() == ("", "")
