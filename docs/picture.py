"""The house drawn from its modules' imports: packages from the ground up, an arc from each to those that it imports."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "tests"))

from house import LEVEL, MODULES, imports_of_packages, package_of

ROW, LEFT, RIGHT = 30, 110, 220
"""Pixels: height of a floor, where names end, where arcs begin."""
GROUND = "one file each"
"""What the modules that belong to no package are called together."""


def picture() -> str:
    """An SVG for the middle of a page; a title on each arc says how many modules it stands for."""
    floor_of = {name: GROUND if LEVEL[name] < LEVEL["files"] else name for name in LEVEL}
    floors = list(dict.fromkeys(floor_of.values()))
    height = {floor: ROW * (len(floors) - k) for k, floor in enumerate(floors)}
    lines = [
        f'<svg viewBox="0 0 720 {ROW * (len(floors) + 1)}" role="img" aria-label="packages and their imports"'
        ' style="max-width:100%;font-family:sans-serif" fill="currentColor">'
    ]
    for floor, y in height.items():
        size = sum(floor_of.get(package_of(module)) == floor for module in MODULES)
        lines.append(f'<text x="{LEFT}" y="{y + 5}" font-size="14" text-anchor="end">{floor}</text>')
        lines.append(f'<text x="{LEFT + 12}" y="{y + 4}" font-size="11" opacity="0.6">{size} modules</text>')
    arcs: dict[tuple[str, str], int] = {}
    for (above, below), count in imports_of_packages().items():
        pair = floor_of[above], floor_of[below]
        arcs[pair] = arcs.get(pair, 0) + count
    for (above, below), count in sorted(arcs.items()):
        if above == below:
            continue
        start, end = height[above], height[below] - 4
        bend = RIGHT + 30 + 1.2 * (end - start)
        lines.append(
            f'<path d="M{RIGHT} {start} C{bend} {start} {bend} {end} {RIGHT} {end}" fill="none" stroke="currentColor"'
            f' stroke-width="{min(1 + count / 6, 4):.1f}" opacity="0.35">'
            f"<title>{above} imports {below}: {count} modules</title></path>"
        )
    return "\n".join([*lines, "</svg>"])
