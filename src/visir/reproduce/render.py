"""Results as Markdown, CSV, LaTeX and one self-contained HTML page; all from the same sheets."""

from __future__ import annotations

import csv
import html
import io
from collections.abc import Sequence
from pathlib import Path

from visir.core.files import write_text
from visir.reproduce.outcome import Outcome
from visir.reproduce.sheet import Line, Ordering, Results, Sheet

NAMES = {"rank1": "R1", "rank5": "R5", "rank10": "R10", "rank20": "R20", "mAP": "mAP", "mINP": "mINP"}
COLUMNS = (
    "table",
    "row",
    "system",
    "protocol",
    "figure",
    "published",
    "ours",
    "difference",
    "over_trials",
    "over_seeds",
)
REST = ("seeds", "seconds", "notes")
FILES = tuple(f"results.{suffix}" for suffix in ("md", "csv", "tex", "html"))


def write_results(results: Results, output: Path) -> list[Path]:
    """Write ``results.md``, ``.csv``, ``.tex`` and ``.html`` into a folder, each whole or not at all."""
    output.mkdir(parents=True, exist_ok=True)
    texts = (markdown(results), comma_separated(results), latex(results), page(results))
    for name, text in zip(FILES, texts, strict=True):
        write_text(output / name, text)
    return [output / name for name in FILES]


def is_ours(path: Path, suffix: str = "") -> bool:
    """Whether a file looks like one that :func:`write_results` wrote, of this suffix or else its own."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return False
    kind = suffix or path.suffix
    if kind == ".md" and f"{MADE}visir " in text:
        return True
    return {".csv": f"{COLUMNS[0]},{COLUMNS[1]},", ".tex": NEEDED}.get(kind, CELLS) in text


Cells = tuple[list[str], list[list[str]]]


def _cells(sheet: Sheet, protocol: str, figures: Sequence[str]) -> Cells:
    """Head and rows of one protocol's part of a sheet: printed / ours (difference) for each figure."""
    head = ["row", *(NAMES.get(name, name) for name in figures), "± trials", "± seeds", "time", "notes"]
    rows = []
    for line in _shown(sheet, protocol):
        ours = line.outcomes.get(protocol)
        cells = [_both(sheet, line, protocol, figure) for figure in figures]
        name = line.name + (f" [{line.system}]" if line.system and line.system != line.name else "")
        rows.append([name, *cells, *_spread(ours), "; ".join(line.notes(protocol))])
    return head, rows


def _shown(sheet: Sheet, protocol: str) -> list[Line]:
    """The rows that have a figure of this protocol."""
    return [line for line in sheet.lines if protocol in line.outcomes or protocol in line.published]


def _both(sheet: Sheet, line: Line, protocol: str, figure: str) -> str:
    printed = line.published.get(protocol, {}).get(figure)
    ours = line.outcomes.get(protocol)
    left = "-" if printed is None else f"{printed:.2f}"
    if ours is None:
        return left
    difference = sheet.difference(line, protocol, figure)
    return f"{left} / {ours.mean[figure]:.2f}" + ("" if difference is None else f" ({difference:+.2f})")


def _spread(ours: Outcome | None) -> list[str]:
    if ours is None:
        return ["", "", ""]
    seeds = "" if ours.over_seeds is None else f"{ours.over_seeds['rank1']:.2f} / {ours.over_seeds['mAP']:.2f}"
    time = f"{ours.seconds / 60:.1f} min" if ours.seconds >= 60 else f"{ours.seconds:.0f} s"
    return [f"{ours.over_trials['rank1']:.2f} / {ours.over_trials['mAP']:.2f}", seeds, time]


CELLS = "Each cell: printed / ours"
MADE = "Made by `"
NEEDED = "% needs \\usepackage{booktabs}"
LEGEND = (
    f"{CELLS} (difference), in percent. '± trials' and '± seeds': deviation of our rank-1 / mAP over "
    "trials or partitions, and over seeds. Time: training of one run."
)

COUNTED = (
    "A claim holds when the 95 % interval of the difference of mAP, by paired resampling of people, lies above zero; "
    "it is undecided when zero is inside. What another training (another seed) would have given is not in the interval."
)


def _counted(orderings: Sequence[Ordering]) -> str:
    """How many claims have which verdict."""
    verdicts = [one.verdict.partition(":")[0] for one in orderings]
    kinds = ("holds", "undecided", "does not hold", "not run")
    return "Here: " + ", ".join(f"{verdicts.count(kind)} {kind}" for kind in kinds) + "."


def markdown(results: Results) -> str:
    """The page as GitHub Markdown."""
    lines = [f"# {_marked(results.title)}", ""]
    if results.command:
        lines += [f"{MADE}{results.command}`.", ""]
    lines += [*(f"- {fact}" for fact in results.facts), "", LEGEND, ""]
    if results.orderings:
        lines += [
            "## Orderings of the publications",
            "",
            COUNTED,
            _counted(results.orderings),
            "",
            *table(*_orderings(results.orderings)),
            "",
        ]
    for sheet in results.sheets:
        lines += [f"## {_marked(sheet.title)}", "", sheet.caption, "", *(f"- {note}" for note in sheet.notes)]
        lines += [""] if sheet.notes else []
        for protocol, figures in sheet.columns.items():
            head, rows = _cells(sheet, protocol, figures)
            if rows:
                lines += [f"`{_label(sheet, protocol)}`", "", *table(head, rows), ""]
    return "\n".join(lines).rstrip() + "\n"


def _label(sheet: Sheet, protocol: str) -> str:
    """The protocol id that our figures carry, which says when partitions are missing."""
    found = {line.outcomes[protocol].protocol for line in sheet.lines if protocol in line.outcomes}
    return found.pop() if len(found) == 1 else protocol


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a table in GitHub Markdown."""

    def joined(cells: Sequence[str]) -> str:
        return "| " + " | ".join(map(_marked, cells)) + " |"

    return [joined(head), "|" + "---|" * len(head), *map(joined, rows)]


def _marked(text: str) -> str:
    """Text that Markdown shows as it is, in one line."""
    return "".join(f"\\{one}" if one in "\\`*<|" else one for one in " ".join(text.split("\n")))


def _orderings(found: Sequence[Ordering]) -> Cells:
    head = ["claim (mAP)", "protocol", "printed difference", "our difference", "95 % interval", "verdict"]

    def signed(value: float | None) -> str:
        return "-" if value is None else f"{value:+.2f}"

    def row(one: Ordering) -> list[str]:
        interval = "-" if one.interval is None else f"{one.interval[0]:+.2f} to {one.interval[1]:+.2f}"
        claim = f"{one.better} above {one.worse}"
        return [claim, one.protocol, signed(one.printed), signed(one.ours), interval, one.verdict]

    return head, [row(one) for one in found]


def comma_separated(results: Results) -> str:
    """One row a figure: table, row, system, protocol, figure, published, ours, difference, deviations, notes."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*COLUMNS, *REST])
    for sheet in results.sheets:
        for line in sheet.lines:
            for protocol, figures in sheet.columns.items():
                ours = line.outcomes.get(protocol)
                if ours is None and protocol not in line.published:
                    continue
                notes = "; ".join(line.notes(protocol))
                for figure in figures:
                    writer.writerow(
                        [sheet.title, line.name, line.system or "", *_figure(sheet, line, protocol, figure), notes]
                    )
    return text.getvalue()


def _figure(sheet: Sheet, line: Line, protocol: str, figure: str) -> list[object]:
    printed, ours = line.published.get(protocol, {}).get(figure), line.outcomes.get(protocol)
    difference = sheet.difference(line, protocol, figure)
    shown = ["" if value is None else f"{value:.4f}" for value in (printed, ours and ours.mean[figure], difference)]
    if ours is None:
        return [protocol, figure, *shown, "", "", "", ""]
    seeds = "" if ours.over_seeds is None else f"{ours.over_seeds[figure]:.4f}"
    return [ours.protocol, figure, *shown, f"{ours.over_trials[figure]:.4f}", seeds, ours.seeds, f"{ours.seconds:.1f}"]


def latex(results: Results) -> str:
    """One ``table`` environment for each table and protocol (package booktabs)."""
    lines = [f"% {results.title}", *(f"% {fact}" for fact in results.facts), NEEDED]
    for sheet in results.sheets:
        for protocol, figures in sheet.columns.items():
            head, rows = _cells(sheet, protocol, figures)
            if not rows:
                continue
            lines += [
                "\\begin{table}", "\\centering", f"\\begin{{tabular}}{{l{'r' * (len(head) - 2)}}}", "\\toprule",
                " & ".join(map(_escaped, head[:-1])) + " \\\\", "\\midrule",
                *(" & ".join(map(_escaped, row[:-1])) + " \\\\" for row in rows),
                "\\bottomrule", "\\end{tabular}",
                f"\\caption{{{_escaped(f'{sheet.title}: {sheet.caption}, {_label(sheet, protocol)}. {LEGEND}')}}}",
                "\\end{table}", "",
            ]  # fmt: skip
    return "\n".join(lines) + "\n"


SPECIAL = {
    "\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}", "±": "$\\pm$",
    "<": "\\textless{}", ">": "\\textgreater{}", "|": "\\textbar{}",
    "[": "{[}", "]": "{]}", "*": "{*}",  # behind a line's end they would be its arguments
}  # fmt: skip


def _escaped(text: str) -> str:
    return "".join(SPECIAL.get(one, f"\\{one}" if one in "&%$#_{}" else one) for one in text)


STYLE = """body{font:15px/1.45 system-ui,sans-serif;margin:2rem auto;max-width:76rem;padding:0 1rem;color:#1c1e21}
table{border-collapse:collapse;margin:.6rem 0 1.6rem;font-variant-numeric:tabular-nums}
th,td{padding:.25rem .6rem;border-bottom:1px solid #ddd;text-align:right;white-space:nowrap}
th:first-child,td:first-child,td:last-child,th:last-child{text-align:left;white-space:normal}
thead th{border-bottom:2px solid #888}tr.own td{font-weight:600}.holds{color:#1a7f37}.fails{color:#b3261e}
code{background:#f3f3f3;padding:0 .25rem}h2{margin-top:2.2rem}div.wide{overflow-x:auto}"""


def page(results: Results) -> str:
    """One HTML file without scripts or outside resources."""
    body = [f"<h1>{html.escape(results.title)}</h1>"]
    if results.command:
        body.append(f"<p>Made by <code>{html.escape(results.command)}</code>.</p>")
    body += ["<ul>", *(f"<li>{html.escape(fact)}</li>" for fact in results.facts), "</ul>", f"<p>{LEGEND}</p>"]
    if results.orderings:
        head, rows = _orderings(results.orderings)
        classes = [{"holds": "holds", "does not hold": "fails"}.get(one.verdict, "") for one in results.orderings]
        said = html.escape(f"{COUNTED} {_counted(results.orderings)}")
        body += ["<h2>Orderings of the publications</h2>", f"<p>{said}</p>", _html_table(head, rows, classes)]
    for sheet in results.sheets:
        body += [f"<h2>{html.escape(sheet.title)}</h2><p>{html.escape(sheet.caption)}</p>"]
        body += [f"<p>{html.escape(note)}</p>" for note in sheet.notes]
        for protocol, figures in sheet.columns.items():
            head, rows = _cells(sheet, protocol, figures)
            classes = ["own" if line.own else "" for line in _shown(sheet, protocol)]
            if rows:
                body += [
                    f"<p><code>{html.escape(_label(sheet, protocol))}</code></p>",
                    _html_table(head, rows, classes),
                ]
    title = html.escape(results.title)
    top = f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
    return top + f"<style>{STYLE}</style></head>\n<body>\n" + "\n".join(body) + "\n</body></html>\n"


def _html_table(head: Sequence[str], rows: Sequence[Sequence[str]], classes: Sequence[str]) -> str:
    def cells(tag: str, values: Sequence[str]) -> str:
        return "".join(f"<{tag}>{html.escape(value)}</{tag}>" for value in values)

    lines = [
        f'<tr class="{kind}">{cells("td", row)}</tr>' if kind else f"<tr>{cells('td', row)}</tr>"
        for row, kind in zip(rows, classes, strict=True)
    ]
    top = f"<thead><tr>{cells('th', head)}</tr></thead>"
    return f"<div class=wide><table>{top}<tbody>{''.join(lines)}</tbody></table></div>"
