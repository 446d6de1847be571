"""Where data are: which of flag, environment and record decides, and whether anything may be written there."""

from __future__ import annotations

from pathlib import Path

import pytest

from vaectl.data.location import DEFAULT, FLAG, RECORD, VARIABLE, Location, find_directory, locate, place_to_train
from vaectl.errors import DataError, UsageError

F, V, R, D = Path("/flag"), Path("/variable"), Path("/recorded"), Path("data")


@pytest.mark.parametrize(
    ("flag", "variable", "recorded", "own", "there", "location"),
    [
        # a built-in data set that is to be trained on
        (None, None, None, False, (), Location(D, True, DEFAULT)),
        (None, "", None, False, (), Location(D, True, DEFAULT)),
        (None, "/variable", None, False, (), Location(V, True, VARIABLE)),
        (F, "/variable", None, False, (), Location(F, True, FLAG)),
        # that of a run: what only its record names is read and not written
        (None, None, R, False, (R,), Location(R, False, RECORD)),
        (None, None, R, False, (), Location(D, True, DEFAULT)),
        (None, None, D, False, (D,), Location(D, True, DEFAULT)),
        (None, "/variable", R, False, (R,), Location(V, True, VARIABLE)),
        (F, "/variable", R, False, (R,), Location(F, True, FLAG)),
        # own data are only where they are, whatever the environment says
        (None, None, R, True, (R,), Location(R, False, RECORD)),
        (None, "/variable", R, True, (), Location(R, False, RECORD)),
        (F, "/variable", R, True, (R,), Location(F, True, FLAG)),
    ],
)
def test_which_directory_data_are_in(
    flag: Path | None,
    variable: str | None,
    recorded: Path | None,
    own: bool,
    there: tuple[Path, ...],
    location: Location,
) -> None:
    assert locate(flag, variable, recorded, own=own, is_directory=lambda path: path in there) == location
    assert location.chosen == (location.said in (FLAG, VARIABLE))


def test_the_flag_may_name_own_data_themselves(tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "x.npy").touch()
    for flag in (tmp_path / "new", str(tmp_path / "new" / "x.npy")):
        assert find_directory(flag, own="/old/x.npy").path == tmp_path / "new"
    with pytest.raises(DataError, match="is a file; it is the directory of data sets"):
        find_directory(tmp_path / "new" / "x.npy")


def test_a_directory_that_was_chosen_is_checked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="--data-dir nowhere does not exist"):
        find_directory("nowhere")
    monkeypatch.setenv("VAECTL_DATA_DIR", "nowhere")
    with pytest.raises(DataError, match="VAECTL_DATA_DIR nowhere does not exist"):
        find_directory(None, tmp_path)
    assert find_directory(None, tmp_path, own="x.npy") == Location(tmp_path, False, RECORD)


def test_a_path_to_train_on_is_where_it_is(tmp_path: Path) -> None:
    assert place_to_train(str(tmp_path / "x.npy"), None).path == tmp_path
    with pytest.raises(UsageError, match="--data-dir is for built-in data sets"):
        place_to_train("./x.npy", tmp_path)
