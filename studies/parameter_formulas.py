"""Report A's tables of parameter formulas, beside our counts by block.

python -m studies.parameter_formulas prints them for the networks that have one.
"""

from collections.abc import Sequence

from jaxnets import models, reported
from jaxnets.commands.summary import Layer, summarize


def compare(layers: Sequence[Layer], name: str) -> list[str]:
    """Returns lines with report A's formulas of a network and our counts by block; empty if it has none."""
    formulas = reported.document("lung")["entries"].get(f"A/{name}", {}).get("parameter_formulas")
    if formulas is None:
        return []
    lines = ["", "report A's table of formulas, which does not describe this network:"]
    for row in formulas["rows"]:
        wrong = "" if row.get("agrees", True) else f"  (gives {row['formula_gives_computed']:,})"
        lines.append(f"{row['layer']:<26}{row['total']:>13,}  {row['formula']}{wrong}")
    blocks: dict[str, int] = {}
    for layer in layers:
        block = layer.path.partition("/")[0]
        blocks[block] = blocks.get(block, 0) + layer.parameters
    lines += [f"{'sum':<26}{formulas['sum_of_totals_computed']:>13,}", "", "our parameters by block:"]
    lines += [f"{block:<26}{count:>13,}" for block, count in blocks.items()]
    heads = sum(models.auxiliary_part(blocks).values())
    lines += [f"{'sum':<26}{sum(blocks.values()) - heads:>13,}"]
    return lines + ([f"{'auxiliary heads':<26}{heads:>13,}"] if heads else [])


if __name__ == "__main__":
    for key in reported.document("lung")["entries"]:
        network = key.partition("/")[2]
        if lines := compare([], network):
            print("\n".join([*compare(summarize(network, num_classes=3, image_size=None), network), ""]))
