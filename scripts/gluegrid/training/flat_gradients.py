"""The gradients of a model in a few tensors, which processes add up as they are."""

from collections.abc import Iterator

import torch

BYTES_OF_A_MESSAGE = 2**26


class FlatGradients:
    """The gradients of parameters of one dtype, one after the other in `tensors`, and a loss behind the last.

    `views` are the parameters' own parts of `tensors`, in their order.
    """

    def __init__(self, parameters: list[torch.nn.Parameter]):
        self.parameters = parameters
        self.tensors: list[torch.Tensor] = []
        self.views: list[torch.Tensor] = []
        buckets = list(_buckets(parameters))
        for together in buckets:
            sizes = [parameter.numel() for parameter in together]
            of_loss = [1] if together is buckets[-1] else []
            flat = torch.zeros(sum(sizes + of_loss), dtype=together[0].dtype, device=together[0].device)
            self.tensors.append(flat)
            parts = flat.split(sizes + of_loss)
            self.views += [part.view_as(parameter) for part, parameter in zip(parts, together, strict=False)]
        self.loss = self.tensors[-1][-1]

    @classmethod
    def of(cls, parameters: list[torch.nn.Parameter]) -> "FlatGradients":
        """Return those of the parameters that have gradients, with their gradients."""
        gradients = cls([parameter for parameter in parameters if parameter.grad is not None])
        torch._foreach_copy_(gradients.views, [parameter.grad for parameter in gradients.parameters])
        gradients.attach()
        return gradients

    def replace(self, gradients: list[torch.Tensor], loss: torch.Tensor) -> None:
        """Copy in other gradients, of any dtypes, and their loss."""
        for dtype in {gradient.dtype: None for gradient in gradients}:
            pairs = [pair for pair in zip(self.views, gradients, strict=True) if pair[1].dtype == dtype]
            # A few kernels for all of one dtype; one for each where dtypes are mixed.
            torch._foreach_copy_(*map(list, zip(*pairs, strict=True)))
        self.loss.copy_(loss)

    @property
    def is_attached(self) -> bool:
        """Whether these are the parameters' gradients."""
        return self.parameters[0].grad is self.views[0]

    def attach(self) -> None:
        """Let the parameters have these as their gradients."""
        for parameter, view in zip(self.parameters, self.views, strict=True):
            parameter.grad = view

    def clear(self) -> None:
        """Make all zero, and the parameters' own."""
        torch._foreach_zero_(self.tensors)
        self.attach()


def _buckets(parameters: list[torch.nn.Parameter]) -> Iterator[list[torch.nn.Parameter]]:
    """Yield the parameters in groups: fewer messages than one for each, and none that waits for all."""
    bucket, size = [], 0
    for parameter in parameters:
        if bucket and size + parameter.nbytes > BYTES_OF_A_MESSAGE:
            yield bucket
            bucket, size = [], 0
        bucket.append(parameter)
        size += parameter.nbytes
    yield bucket
