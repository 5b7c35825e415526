"""The gradients of a model in a few flat tensors, which processes sum directly."""

from collections.abc import Iterator

import torch

BYTES_OF_A_MESSAGE = 2**26


class FlatGradients:
    """The gradients of parameters of one dtype, one after another in `tensors`, followed by a loss.

    `views` are the parts of `tensors` that belong to each parameter, in order.
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
        """Return flat copies of the existing gradients, attached to their parameters."""
        gradients = cls([parameter for parameter in parameters if parameter.grad is not None])
        torch._foreach_copy_(gradients.views, [parameter.grad for parameter in gradients.parameters])
        gradients.attach()
        return gradients

    def replace(self, gradients: list[torch.Tensor], loss: torch.Tensor) -> None:
        """Copy in other gradients, of any dtype, and their loss."""
        for dtype in {gradient.dtype: None for gradient in gradients}:
            pairs = [pair for pair in zip(self.views, gradients, strict=True) if pair[1].dtype == dtype]
            # A few kernels for all gradients of one dtype; mixed dtypes would need one kernel each.
            torch._foreach_copy_(*map(list, zip(*pairs, strict=True)))
        self.loss.copy_(loss)

    @property
    def is_attached(self) -> bool:
        """Whether these are the parameters' gradients."""
        return self.parameters[0].grad is self.views[0]

    def attach(self) -> None:
        """Make these the parameters' gradients."""
        for parameter, view in zip(self.parameters, self.views, strict=True):
            parameter.grad = view

    def clear(self) -> None:
        """Set all to zero and make them the parameters' gradients."""
        torch._foreach_zero_(self.tensors)
        self.attach()


def _buckets(parameters: list[torch.nn.Parameter]) -> Iterator[list[torch.nn.Parameter]]:
    """Yield groups of parameters: fewer messages than one per parameter, and none that waits for all of them."""
    bucket, size = [], 0
    for parameter in parameters:
        if bucket and size + parameter.nbytes > BYTES_OF_A_MESSAGE:
            yield bucket
            bucket, size = [], 0
        bucket.append(parameter)
        size += parameter.nbytes
    yield bucket
