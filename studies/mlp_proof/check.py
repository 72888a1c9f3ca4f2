"""A check: a difference that must stay below a limit, or a fact that must be so."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Check:
    """What was compared, how far apart it is, and how far it may be."""

    name: str
    difference: float
    limit: float

    @property
    def holds(self) -> bool:
        """Whether it does; a nan never does."""
        return self.difference <= self.limit

    def __str__(self) -> str:
        return f"{self.name}: {self.difference:.3g}, the limit is {self.limit:.3g}"


def fact(name: str, so: bool) -> Check:
    """A check of something that is so or is not."""
    return Check(name, 0.0 if so else 1.0, 0.0)
