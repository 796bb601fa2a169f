import sys

import pytest

from benchmarks.figures import Figure, save_figures
from benchmarks.machine import machine_name
from benchmarks.pairs import Pair, summarise
from benchmarks.turns import Contestant, Turn, stock_environment

QUIET = [False] * 7


def test_the_median_and_the_lower_quartile_are_of_ratios_not_of_rates():
    summary = summarise([1.0, 9.0, 2.0, 8.0, 3.0, 7.0, 4.0], QUIET)
    assert (summary.median, summary.p25) == (4.0, 2.5)


def test_disturbed_pairs_do_not_count_as_long_as_five_are_left():
    summary = summarise([3.0, 3.0, 3.0, 3.0, 3.0, 90.0, 0.1], [False] * 5 + [True] * 2)
    assert (summary.median, summary.num_pairs, summary.num_discarded, summary.is_disturbed) == (3.0, 5, 2, False)


def test_where_too_few_pairs_were_left_alone_all_count_and_the_summary_says_so():
    summary = summarise([1.0, 2.0, 3.0, 4.0, 5.0], [True] + [False] * 3 + [True])
    assert (summary.median, summary.num_pairs, summary.num_discarded, summary.is_disturbed) == (3.0, 5, 0, True)


@pytest.mark.parametrize(
    ("ratios", "reached"),
    [([3.0] * 7, True), ([2.9] * 7, False), ([2.0, 2.0, 3.1, 3.1, 3.1, 3.1, 3.1], False), ([2.8, 2.8, 3.1, 3.1, 3.1], True)],
)
def test_a_goal_is_reached_by_the_median_with_the_lower_quartile_near_it(ratios, reached):
    assert summarise(ratios, [False] * len(ratios)).reaches(3.0) is reached


@pytest.mark.parametrize(
    ("ratios", "stays"),
    [([1.2] * 5, True), ([1.3] * 5, False), ([1.0, 1.0, 1.2, 1.3, 1.3], True), ([1.0, 1.0, 1.2, 1.5, 1.5], False)],
)
def test_a_limit_holds_for_the_median_with_the_upper_quartile_near_it(ratios, stays):
    assert summarise(ratios, [False] * len(ratios)).stays_under(1.25) is stays


@pytest.mark.parametrize(("peak_change", "foreign", "disturbed"), [(0.1, 0.01, False), (0.2, 0.01, True), (0.1, 0.2, True)])
def test_a_pair_compares_rates_and_knows_when_the_machine_was_disturbed(peak_change, foreign, disturbed):
    ours, baseline = (Turn(seconds=seconds, facts={"images": images}) for seconds, images in ((2.0, 600), (4.0, 300)))
    pair = Pair(ours=ours, baseline=baseline, peak_change=peak_change, foreign=foreign)
    assert pair.ratio == 4.0
    assert pair.disturbed is disturbed


def test_a_program_works_when_it_is_its_turn_and_is_ended_at_the_end(tmp_path):
    with Contestant(
        "counter", program("for n in count(1): turns.wait(); turns.done(images=n)"), stock_environment(), tmp_path
    ) as it:
        assert [it.take_turn().facts["images"] for _ in range(3)] == [1, 2, 3]
        it.finish()


def test_a_program_that_fails_is_named_with_the_end_of_what_it_printed(tmp_path):
    failing = program("turns.wait(); raise ValueError('the file is gone')")
    with (
        Contestant("reader", failing, stock_environment(), tmp_path) as it,
        pytest.raises(RuntimeError, match=r"reader ended in the middle of its turn(?s:.*)the file is gone"),
    ):
        it.take_turn()


def program(work):
    code = f"import sys; from itertools import count; from benchmarks.turns import Turns; turns = Turns(sys.argv[-1])\n{work}"
    return [sys.executable, "-c", code]


def test_figures_measured_later_replace_those_of_their_name_and_leave_the_others(tmp_path):
    path = tmp_path / "results.json"
    save_figures(path, {}, [figure("a", 1.0), figure("b", 1.0)])
    kept = save_figures(path, {}, [figure("b", 2.0)])
    assert [(entry.name, entry.measured) for entry in kept] == [("a", 1.0), ("b", 2.0)]


def test_a_missed_figure_says_by_how_much():
    assert figure("a", 1.5).to_row() == "| a | at least 2.0 x | **1.5 x** | 1.5 x | 1 | no, by 25% |"


def figure(name, measured):
    return Figure(
        name=name,
        title=name,
        unit="x",
        wanted=2.0,
        higher_is_better=True,
        measured=measured,
        spread=measured,
        met=measured >= 2.0,
        num_pairs=1,
    )


def test_the_name_of_a_machine_says_what_it_is_and_not_which_one():
    machine = {"cpu": "Intel Xeon Processor", "family_and_model": "6/143", "cores": 2}
    assert machine_name(machine) == "intel-xeon-processor-6-143-2-cores"
