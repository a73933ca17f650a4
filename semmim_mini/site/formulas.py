r"""Formulas of Markdown pages as drawings: LaTeX in, SVG out, while the site is built.

    $\tau_s$ ──pymdownx.arithmatex──► <span class="arithmatex">\(\tau_s\)</span> ──ziamath──► <svg>

Drawn once and for all, a formula needs no script, no font and no network where it is read, and looks the same in every browser. It
takes the colour and size of the text around it, and its LaTeX is what screen readers hear.
"""

import html
import re

import ziamath

from semmim_mini.errors import UserError

SIZE = 16.0  # px of the drawing, called 1 em on the page
FOUND = re.compile(r'<(span|div) class="arithmatex">\\([(\[])(.+?)\\[)\]]</\1>', re.DOTALL)
VIEW_BOX = re.compile(r'viewBox="([^"]+)"')  # left, top (baseline: 0), width, height
# What ziamath does not know, or sets too tightly.
REWRITTEN = (
    (r"\\arg\s*\\max", r"\\mathrm{arg\\,max}"),
    (r"\\(log|ln)(?=\s*\\?[A-Za-z])", r"\\\1\\,"),
    (r"(?<!\\)&", r"\\;&\\;"),
    (r"\s+", " "),
)
ziamath.config.svg2 = False  # paths, no symbols: symbols have ids, and a page has many formulas


def typeset(page: str) -> str:
    """An HTML page with every formula that arithmatex marked as a drawing."""
    return FOUND.sub(lambda found: draw(html.unescape(found[3]).strip(), inline=found[2] == "("), page)


def draw(latex: str, inline: bool) -> str:
    """One formula as SVG, in the line or on a line of its own.

    Raises:
        UserError: it is no LaTeX, or has a command that would stand there as it is typed.
    """
    source = latex
    for old, new in REWRITTEN:
        source = re.sub(old, new, source)
    try:
        formula = ziamath.Latex(source, size=SIZE, color="currentColor", inline=inline)
    except Exception as error:  # the parser's own have nothing in common
        raise UserError(f"the formula {latex} cannot be drawn: {type(error).__name__}; is every bracket closed?") from error
    if unknown := re.search(r"\\[A-Za-z]+", " ".join(formula.mathml.itertext())):
        raise UserError(
            f"the formula {latex} has {unknown[0]}, which ziamath does not know; write it otherwise, or give it a line in REWRITTEN"
        )
    svg = formula.svg()
    _, top, width, height = (float(number) / SIZE for number in VIEW_BOX.search(svg)[1].split())
    below = f"; vertical-align: {-(top + height):.3f}em" if inline else ""
    size = f'style="width: {width:.3f}em; height: {height:.3f}em{below}" role="img" aria-label="{html.escape(latex)}"'
    svg = re.sub(r'width="[^"]*" height="[^"]*"', lambda _: size, svg, count=1)
    return svg if inline else f'<div class="formula">{svg}</div>'
