"""The validation report for people: one HTML file that needs nothing beside it, and the same in Markdown."""

from html import escape
from pathlib import Path

from slipway.data.findings import Finding, ValidationReport
from slipway.storage.files import write_text

_MAX_BARS = 200
_WORDS = {"block": "Blocks", "warn": "Look at this", "info": "Note"}
_STYLE = """
:root { color-scheme: light dark; --text: #1d2733; --soft: #5c6b7a; --line: #dde3ea; --page: #f6f8fa; --card: #fff;
  --good: #1a7f4b; --bad: #c0362c; --warn: #9a6700; --bar: #3b7dd8; }
@media (prefers-color-scheme: dark) { :root { --text: #e4e9ef; --soft: #9aa7b4; --line: #2e3a46; --page: #12181f;
  --card: #1a222b; --good: #4cc38a; --bad: #ff7b72; --warn: #e3b341; --bar: #6aa3f0; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--text); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 56rem; margin: 0 auto; padding: 2.5rem 1.25rem 4rem; }
h1 { font-size: 1.6rem; margin: 0 0 .25rem; } h2 { font-size: 1.15rem; margin: 2.25rem 0 .75rem; }
.source { color: var(--soft); overflow-wrap: anywhere; margin: 0 0 1.25rem; }
.verdict { border-left: .4rem solid var(--good); background: var(--card); padding: .8rem 1rem; border-radius: .3rem; }
.verdict.refused { border-color: var(--bad); }
.card { background: var(--card); border: 1px solid var(--line); border-radius: .5rem; padding: .8rem 1rem; margin: 0 0 .7rem; }
.tag { font-size: .8rem; font-weight: 600; margin-right: .5rem; } .rule { color: var(--soft); font-size: .85rem; }
.block .tag { color: var(--bad); } .warn .tag { color: var(--warn); } .info .tag { color: var(--soft); }
.card p { margin: .3rem 0 0; overflow-wrap: anywhere; }
.card ul { margin: .4rem 0 0; padding-left: 1.2rem; color: var(--soft); font-size: .9rem; overflow-wrap: anywhere; }
table { border-collapse: collapse; width: 100%; } th, td { text-align: left; padding: .3rem .6rem .3rem 0; vertical-align: top; }
th { font-weight: 500; color: var(--soft); width: 30%; } td { overflow-wrap: anywhere; }
tr + tr > * { border-top: 1px solid var(--line); }
.bars td { width: 60%; } .bars td.count { width: 10%; text-align: right; font-variant-numeric: tabular-nums; }
.bar { display: block; height: .8rem; border-radius: .2rem; background: var(--bar); min-width: 2px; margin-top: .35rem; }
"""


def write_validation_report(report: ValidationReport, html_path: Path, markdown_path: Path) -> None:
    """Write the report in both forms."""
    write_text(html_path, render_html(report))
    write_text(markdown_path, render_markdown(report))


def render_html(report: ValidationReport) -> str:
    """The report as one page: no script, no request to anywhere."""
    facts = "".join(f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in report.facts.items())
    verdict = "verdict" if report.accepted else "verdict refused"
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Validation of {escape(report.source)}</title><style>{_STYLE}</style></head><body><main>"
        f'<h1>Data validation</h1><p class="source">{escape(report.source)}</p>'
        f'<p class="{verdict}">{escape(_summarize(report))}</p>'
        f"<h2>Findings</h2>{''.join(_render_finding(finding) for finding in report.findings)}"
        f"<h2>Classes</h2>{_render_classes(report)}"
        f"<h2>The data</h2><table>{facts}</table></main></body></html>\n"
    )


def render_markdown(report: ValidationReport) -> str:
    """The report as Markdown."""
    lines = ["# Data validation", "", f"**{_summarize(report)}**", "", "## Findings", ""]
    for finding in report.findings:
        lines.append(f"- **{_WORDS[finding.severity]}** ({finding.rule}): {_plain(finding.message)}")
        lines += [f"    - {_plain(place)}" for place in finding.where]
    lines += ["", "## Classes", "", "| class | samples |", "|---|---:|"]
    lines += [f"| {_plain(name)} | {count} |" for name, count in list(report.class_counts.items())[:_MAX_BARS]]
    lines += ["", "## The data", "", "| | |", "|---|---|"]
    lines += [f"| {_plain(name)} | {_plain(value)} |" for name, value in report.facts.items()]
    return "\n".join(lines) + "\n"


def _summarize(report: ValidationReport) -> str:
    num_blocking = len(report.blocking)
    num_warnings = sum(finding.severity == "warn" for finding in report.findings)
    if num_blocking:
        return f"Refused: {_count(num_blocking, 'finding')} must be dealt with before this data is used."
    if num_warnings:
        return f"Accepted, with {_count(num_warnings, 'warning')} to look at."
    return "Accepted: nothing to object to."


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")


def _render_finding(finding: Finding) -> str:
    places = "".join(f"<li>{escape(place)}</li>" for place in finding.where)
    return (
        f'<div class="card {finding.severity}"><span class="tag">{_WORDS[finding.severity]}</span>'
        f'<span class="rule">{escape(finding.rule)}</span><p>{escape(finding.message)}</p>'
        f"{f'<ul>{places}</ul>' if places else ''}</div>"
    )


def _render_classes(report: ValidationReport) -> str:
    most = max(1, *report.class_counts.values())
    rows = [
        f'<tr><th>{escape(name)}</th><td><span class="bar" style="width:{100 * count / most:.1f}%"></span></td>'
        f'<td class="count">{count:,}</td></tr>'
        for name, count in list(report.class_counts.items())[:_MAX_BARS]
    ]
    more = len(report.class_counts) - len(rows)
    return f'<table class="bars">{"".join(rows)}</table>' + (f"<p>and {more} more classes</p>" if more else "")


def _plain(text: str) -> str:
    """Text that Markdown leaves as it is."""
    for mark in "\\`*_[]<>|#":
        text = text.replace(mark, f"\\{mark}")
    return text.replace("\n", " ")
