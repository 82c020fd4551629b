"""The checks that the tests stand on: they look at every function, and not only once."""

from dataclasses import dataclass

import numpy as np
import pytest
from beartype import beartype
from jaxtyping import Float, TypeCheckError

from sanawm_gym.geometry import invert_pose
from sanawm_gym.worldmodel.heads import HeadsConfig
from tests.type_checks import EVERY, FIRST, begin_test, sparing


@sparing(typechecker=beartype)
def paired(first: Float[np.ndarray, " n"], second: Float[np.ndarray, " n"]) -> int:
    return len(first) + len(second)


@sparing(typechecker=beartype)
@dataclass(frozen=True)
class Pair:
    first: Float[np.ndarray, " n"]
    second: Float[np.ndarray, " n"]


@pytest.mark.parametrize("checked", [paired, Pair])
def test_the_first_calls_of_a_test_are_checked_and_then_some(checked: type) -> None:
    for _ in range(2):
        begin_test()
        noticed = []
        for call in range(1, 3 * EVERY + 1):
            try:
                checked(np.zeros(2), np.zeros(3))
            except TypeCheckError:
                noticed.append(call)
        assert noticed == [*range(1, FIRST + 1), EVERY, 2 * EVERY, 3 * EVERY]


def test_what_fits_is_let_through_whether_it_is_checked_or_not() -> None:
    assert {paired(np.zeros(2), second=np.ones(2)) for _ in range(2 * EVERY)} == {4}


@pytest.mark.parametrize("shape", [(3, 3), (4,), (2, 4, 3)])
def test_functions_of_the_package_are_checked(shape: tuple[int, ...]) -> None:
    with pytest.raises(TypeCheckError, match=r"sanawm_gym\.geometry\.invert_pose"):
        invert_pose(np.zeros(shape))


def test_dataclasses_of_the_package_are_checked() -> None:
    with pytest.raises(TypeCheckError, match="channels"):
        HeadsConfig(channels="many", grid=(5, 8), width=4, hidden=8, network="")  # type: ignore[arg-type]
