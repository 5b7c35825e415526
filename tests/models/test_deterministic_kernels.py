"""Operations that have no deterministic kernel: torch says so of one, which has none on a CPU either."""

import logging

import pytest
import torch

from gluegrid.models.deterministic_kernels import deterministic_or_else

OF_CUBLAS = """Deterministic behavior was enabled with either `torch.use_deterministic_algorithms(True)` or
`at::Context::setDeterministicAlgorithms(true)`, but this operation is not deterministic because it uses CuBLAS and you
have CUDA >= 10.2. To enable deterministic behavior in this case, you must set an environment variable"""


@pytest.fixture(autouse=True)
def strict():
    torch.set_deterministic_debug_mode("error")
    yield
    torch.set_deterministic_debug_mode("default")


def put():
    return torch.zeros(3).put_(torch.tensor([1]), torch.ones(1)).tolist()


def test_an_operation_without_a_deterministic_kernel_is_computed_by_another_and_the_log_says_so(caplog):
    with pytest.raises(RuntimeError):
        put()
    with caplog.at_level(logging.WARNING):
        assert [deterministic_or_else(put) for _ in range(2)] == [[0, 1, 0]] * 2
    assert not torch.are_deterministic_algorithms_enabled()
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.endswith("are not deterministic: put_ does not have a deterministic implementation")


def raising(error):
    calls = []

    def function():
        calls.append(True)
        if len(calls) == 1:
            raise error
        return "done"

    return function


def test_matrix_products_that_the_users_workspace_makes_differ_are_such_operations():
    assert deterministic_or_else(raising(RuntimeError(" ".join(OF_CUBLAS.split())))) == "done"
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize(
    "error", [RuntimeError("expected scalar type Half"), torch.OutOfMemoryError("CUDA out of memory"), KeyError("x")]
)
def test_other_errors_stay_what_they_are(error):
    with pytest.raises(type(error)):
        deterministic_or_else(raising(error))
    assert torch.are_deterministic_algorithms_enabled()


def test_what_is_raised_although_any_kernel_is_allowed_is_not_tried_again():
    torch.set_deterministic_debug_mode("default")
    with pytest.raises(RuntimeError):
        deterministic_or_else(raising(RuntimeError("x does not have a deterministic implementation")))
