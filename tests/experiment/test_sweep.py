"""Shards of a sweep; tests/studies/test_reproduce.py tests how its rows are trained."""

import pytest

from jaxnets.errors import ConfigError
from jaxnets.experiment.sweep import select_shard


@pytest.mark.parametrize("count", [1, 2, 5, 9])
def test_every_row_is_in_one_shard(count: int) -> None:
    rows = list("abcdefg")
    shards = [select_shard(rows, f"{number}/{count}") for number in range(1, count + 1)]
    assert sorted(row for shard in shards for row in shard) == rows
    assert max(map(len, shards)) - min(map(len, shards)) <= 1
    assert select_shard(rows, None) == rows


@pytest.mark.parametrize("shard", ["0/2", "3/2", "1", "1/0", "a/b", "1/2/3", "-1/2", ""])
def test_an_invalid_shard_raises(shard: str) -> None:
    with pytest.raises(ConfigError, match="must be I/N with I from 1 to N, such as 2/5"):
        select_shard([1, 2], shard)
