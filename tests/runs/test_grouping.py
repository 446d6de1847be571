"""Settings over several seeds: groups, their spread, intervals that keep their promise, and the command."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import Cli
from tests.support.runs import replica
from vaectl.errors import UsageError
from vaectl.runs.grouping import by_setting, compare_groups, seed_groups
from vaectl.runs.run import Run
from vaectl.stats import difference_over_seeds, mean_and_se, paired_difference


def test_half_a_nat_is_found_paired_and_missed_unpaired() -> None:
    """10,000 images that differ by 35 nats, and two models half a nat apart on each, but for noise."""
    generator = np.random.default_rng(0)
    images = generator.normal(-140, 35, 10_000)
    base, better = images + generator.normal(0, 5, 10_000), images + 0.5 + generator.normal(0, 5, 10_000)
    delta, se = paired_difference(better.tolist(), base.tolist())
    assert delta > 2 * se
    unpaired = math.hypot(mean_and_se(better.tolist()).se, mean_and_se(base.tolist()).se)
    assert delta < 2 * unpaired


def simulated(
    generator: np.random.Generator, *, gap: float, seeds: int, seed_sd: float, image_sd: float = 5.0, images: int = 400
) -> tuple[list[float], list[float], list[float]]:
    """Means of the runs of two settings whose true gap is known, and the images' differences of the settings' means."""
    common = generator.normal(-100, 30, images)
    means, by_image = [], []
    for setting in range(2):
        # what a setting does to an image beyond its mean is the images' luck, and shared by its seeds
        taste = generator.normal(0, image_sd, images)
        luck = generator.normal(0, seed_sd, seeds)
        runs = [common + setting * gap + taste + luck[n] + generator.normal(0, 3, images) for n in range(seeds)]
        means.append([float(run.mean()) for run in runs])
        by_image.append(np.mean(runs, axis=0))
    return means[1], means[0], (by_image[1] - by_image[0]).tolist()


@pytest.mark.parametrize(("seeds", "seed_sd"), [(2, 0.3), (3, 0.3), (3, 1.0), (5, 0.05)])
def test_two_groups_of_one_setting_are_called_different_at_most_as_often_as_stated(seeds: int, seed_sd: float) -> None:
    """In 1000 pairs without a true gap the 95 % interval excludes 0 in at most 5 %, within 3 binomial errors."""
    generator = np.random.default_rng(1)
    wrong = 0
    for _ in range(1000):
        found = difference_over_seeds(*simulated(generator, gap=0.0, seeds=seeds, seed_sd=seed_sd))
        wrong += not found.low <= 0 <= found.high
    assert wrong <= 50 + 3 * math.sqrt(1000 * 0.05 * 0.95)


def test_without_the_seeds_luck_the_interval_would_break_its_promise() -> None:
    """The mistake that --group is against: images alone call one setting's seeds different far too often."""
    generator = np.random.default_rng(2)
    wrong = 0
    for _ in range(300):
        _, _, images = simulated(generator, gap=0.0, seeds=3, seed_sd=1.0, image_sd=1.0)
        delta, se = mean_and_se(images)
        wrong += abs(delta) > 2 * se
    assert wrong > 0.3 * 300


def test_half_a_nat_between_two_settings_is_found_with_five_seeds() -> None:
    """With a seed's standard deviation of 0.1 and 10,000 images the interval excludes 0 nearly always."""
    generator = np.random.default_rng(3)
    found = [
        difference_over_seeds(*simulated(generator, gap=0.5, seeds=5, seed_sd=0.1, image_sd=4, images=10_000))
        for _ in range(40)
    ]
    assert sum(each.low > 0 for each in found) >= 38
    assert sum(each.low <= 0.5 <= each.high for each in found) >= 36


def test_the_interval_is_welchs_where_there_are_no_images() -> None:
    """Against scipy's own Welch test."""
    from scipy import stats

    a, b = [1.0, 2.0, 4.0], [3.0, 3.5, 5.0, 9.0]
    found = difference_over_seeds(a, b)
    expected = stats.ttest_ind(a, b, equal_var=False).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert found.se == pytest.approx(math.hypot(np.std(a, ddof=1) / 3**0.5, np.std(b, ddof=1) / 2))
    with pytest.raises(ValueError, match="at least two"):
        difference_over_seeds([1.0], b)


@pytest.fixture
def replicas(runs: Path) -> list[Run]:
    """run1 and run2, each with three seeds whose ELBOs lie 0.1 nats apart, in mixed order."""
    ones, twos = (
        [Run.open(replica(runs, f"run{n}", f"run{n}-{seed}", 0.1 * seed, seed=seed), runs) for seed in (1, 2)]
        for n in (1, 2)
    )
    return [Run.open("run1", runs), twos[0], ones[0], Run.open("run2", runs), ones[1], twos[1]]


def test_groups_are_runs_of_one_setting_in_order_of_appearance(replicas: list[Run]) -> None:
    groups = seed_groups(replicas)
    assert [[run.id for run in group.runs] for group in groups] == [
        ["run1", "run1-1", "run1-2"],
        ["run2-1", "run2", "run2-2"],
    ]
    assert [group.label for group in groups] == ["run1 ×3", "run2-1 ×3"]
    assert [len(group.runs) for group in by_setting(replicas[:2])] == [1, 1]


def test_one_seed_twice_is_refused(replicas: list[Run], runs: Path) -> None:
    """A copy of a run is no second draw of the seed."""
    shutil.copytree(runs / "run1", runs / "twin")
    with pytest.raises(UsageError, match="same seed, 0"):
        seed_groups([*replicas, Run.open("twin", runs)])


def test_a_group_has_mean_and_spread_and_a_difference_with_both_errors(replicas: list[Run]) -> None:
    found = compare_groups(seed_groups(replicas))
    elbo = found.rows[0]
    values = [[run.evaluation("test", "best")["metrics"]["elbo"] for run in c.runs] for c in found.columns]  # type: ignore[index]
    assert elbo.values == pytest.approx([float(np.mean(each)) for each in values])
    assert [cell.sd for cell in elbo.cells] == pytest.approx([0.1, 0.1])
    by_image = [
        np.mean([run.per_example("test", "best")["elbo"] for run in column.runs], axis=0) for column in found.columns
    ]
    expected = difference_over_seeds(values[1], values[0], (by_image[1] - by_image[0]).tolist())
    assert (elbo.cells[1].delta, elbo.cells[1].delta_se) == pytest.approx((expected.delta, expected.se), rel=1e-4)
    assert elbo.cells[1].interval == pytest.approx((expected.low, expected.high), rel=1e-4)
    assert [cell.verdict for cell in elbo.cells] == [None, "worse" if expected.high < 0 else "≈"]
    assert "training.seed" not in found.settings


def test_a_run_on_fewer_examples_takes_the_verdict_of_its_group(replicas: list[Run]) -> None:
    groups = seed_groups(replicas)
    for item in groups[1].runs[2].record["evaluations"]:
        item["n"] = 299
    found = compare_groups(groups)
    assert found.withheld[1] == "run1 was evaluated on 300 test examples and run2-2 on 299"
    assert all((row.cells[1].delta, row.cells[1].verdict) == (None, None) for row in found.rows)


def test_a_single_seed_gives_no_verdict(replicas: list[Run]) -> None:
    found = compare_groups(seed_groups(replicas[:3]))
    assert [row.cells[1].verdict for row in found.rows] == [None] * len(found.rows)
    assert "needs two" in (found.withheld[1] or "")
    assert found.rows[0].cells[1].sd is None
    assert found.rows[0].cells[1].delta is not None


@pytest.mark.parametrize("suffix", [".md", ".json", ".html", ".png"])
def test_the_command_and_its_reports(cli: Cli, replicas: list[Run], isolated: Path, suffix: str) -> None:
    # pictures are of a group's first run, which must not be a copy: its weights know their seed
    names = ["run1", "run2", *(run.id for run in replicas if "-" in run.id)]
    result = cli("compare", *names, "--group", "-o", f"out{suffix}")
    assert result.exit_code == 0, result.output
    assert "mean ± standard deviation over 3 seeds" in result.stdout
    assert "95 % interval" in result.stdout
    content = (isolated / f"out{suffix}").read_bytes()
    assert len(content) > 500
    if suffix in (".md", ".html"):
        assert "run2 ×3".encode() in content
        assert b"standard deviation over 3 seeds" in content


def test_the_document(cli: Cli, replicas: list[Run]) -> None:
    document = json.loads(cli("compare", *(run.id for run in replicas), "--group", "--json").stdout)
    assert document["baseline"] == "run1 ×3"
    assert [group["seeds"] for group in document["groups"]] == [[0, 1, 2], [1, 0, 2]]
    assert document["groups"][0]["metrics"]["elbo"]["sd"] == pytest.approx(0.1)
    assert document["groups"][0]["metrics"]["elbo"]["n"] == 3
    for metric in document["metrics"]:
        assert len(metric["values"]) == len(metric["verdict"]) == len(metric["interval"]) == 2
    quiet = cli("compare", *(run.id for run in replicas), "--group", "-q").stdout.split()
    assert [float(value) for value in quiet] == pytest.approx(document["metrics"][0]["values"], abs=1e-4)


def test_one_group_alone_shows_its_spread(cli: Cli, replicas: list[Run]) -> None:
    result = cli("compare", "run1", "run1-1", "run1-2", "--group")
    assert result.exit_code == 0, result.output
    assert "± 0.10" in result.stdout
    assert "no second setting" in result.stdout


def test_a_count_has_no_interval_and_no_verdict(replicas: list[Run]) -> None:
    """Two equal counts do not show that the seed makes no difference."""
    found = compare_groups(seed_groups(replicas))
    rows = {row.metric.name: row for row in found.rows}
    for name in ("active_units", "mutual_information"):
        assert rows[name].cells[0].sd is not None
        other = rows[name].cells[1]
        assert (other.delta_se, other.interval, other.verdict) == (None, None, None)
