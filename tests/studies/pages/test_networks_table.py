"""The tables of networks."""

import json
from pathlib import Path

from studies.pages import networks_table


def test_speeds_are_those_of_the_largest_images(tmp_path: Path) -> None:
    rows = [
        {"name": "train/resnet50/64/16", "ratio_eager_tuned": 1.5},
        {"name": "train/resnet50/224/16", "ratio_eager_tuned": 1.1},
        {"name": "train/resnet50/224/16/bfloat16", "ratio_eager_tuned": 9.0, "dtype": "bfloat16"},
        {"name": "inference/resnet50/128/16", "ratio_eager_tuned": 2.0},
        {"name": "train/resnet50_narrow/224/16", "ratio_eager_tuned": 9.0},
    ]
    content = {"machine": "here", "versions": {}, "rows": rows}
    (tmp_path / "here-cpu-2026-01-02.json").write_text(json.dumps(content))
    by_title = {row[0]: row for row in networks_table.source_rows(tmp_path)}
    assert by_title["ResNet-50"][-1] == "1.10, 2.00"
    assert by_title["DenseNet-121"][-1] == ""
    assert {len(row) for row in by_title.values()} == {len(networks_table.SOURCE_HEADS)}
