"""The section of training curves."""

from gluegrid.page.blocks import Block, Figures, Section, Text
from gluegrid.page.curve_figures import curve_figure, has_curve
from gluegrid.page.material import Material

WHAT = "The score on validation after each epoch: thick lines are means over seeds, thin ones the seeds."
NONE = (
    "No cell has scores of several epochs. With eval_strategy: epoch in the experiment file, cells are scored after"
    " each."
)


def training_section(material: Material) -> Section:
    """Return the section."""
    figures = []
    for number, of_task in enumerate(material.by_task()):
        groups = [group for group in of_task if group.model in material.looks and has_curve(group)]
        if groups:
            svg = curve_figure(f"curve-{number}", groups, material.looks)
            figures.append(material.panel(svg, groups[0]))
    blocks: list[Block] = [Text(NONE)]
    if figures:
        rule = f" {material.rule_of_looks()} They are drawn." if material.has_others else ""
        blocks = [Text(WHAT + rule, "note"), material.legend("curve", with_others=False), Figures(figures)]
    return Section("training", "Training curves", blocks)
