"""Many resamples of a split's examples at once, for the metrics (experiment/metrics.py)."""

from dataclasses import dataclass

import numpy


@dataclass(frozen=True)
class Resamples:
    """How often each example was drawn, and what runs predict for it.

    `weights` has the shape (resamples, examples), each row's sum is the number of examples; `labels` has the shape
    (examples,), `answers` (examples, runs). Counts are of shape (resamples, runs), those of labels (resamples, 1).
    """

    weights: numpy.ndarray
    labels: numpy.ndarray
    answers: numpy.ndarray

    @property
    def examples(self) -> int:
        """The number drawn in each resample."""
        return len(self.labels)

    @property
    def classes(self) -> numpy.ndarray:
        """The classes that are a label or a prediction of any example."""
        return numpy.union1d(self.labels, self.answers)

    def correct(self) -> numpy.ndarray:
        """Return how often an answer is the label."""
        return self.weights @ (self.answers == self.labels[:, None])

    def true_positives(self, each: int) -> numpy.ndarray:
        """Return how often a class is both the label and the prediction."""
        return self.weights @ ((self.labels == each)[:, None] & (self.answers == each))

    def support(self, each: int) -> numpy.ndarray:
        """Return how often a class is the label."""
        return self.weights @ (self.labels == each)[:, None]

    def predicted(self, each: int) -> numpy.ndarray:
        """Return how often a class is predicted."""
        return self.weights @ (self.answers == each)

    def mean(self, values: numpy.ndarray) -> numpy.ndarray:
        """Return the means over the drawn examples of columns of values."""
        return self.weights @ values / self.examples

    def standardised(self, values: numpy.ndarray) -> numpy.ndarray:
        """Return the columns with mean 0 and variance 1 over all examples; constant columns become 0."""
        values = values.astype(numpy.float64)  # labels are in single precision
        deviations = values - values.mean(axis=0)
        spread = deviations.std(axis=0)
        is_constant = values.max(axis=0) == values.min(axis=0)
        return numpy.where(is_constant, 0.0, deviations / numpy.where(is_constant, 1.0, spread))

    def centred_ranks(self, values: numpy.ndarray) -> numpy.ndarray:
        """Return each example's rank among the drawn, minus the mean rank; of shape (resamples, examples).

        Equal values share the mean of their ranks.
        """
        _, which, counts = numpy.unique(values, return_inverse=True, return_counts=True)
        first_places = numpy.cumsum(counts) - counts
        drawn = numpy.add.reduceat(self.weights[:, numpy.argsort(which, kind="stable")], first_places, axis=1)
        # Ranks from c - d + 1 to c for d equal values, c of them and smaller ones; the mean of all is (n + 1) / 2.
        ranks = numpy.cumsum(drawn, axis=1) - (drawn + len(values)) / 2
        return ranks[:, which]
