"""``hdrs-hpc bench``: measure staging and reading against their peers on this machine."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hdrs_hpc.cli import options

if TYPE_CHECKING:
    from benchmarks.results import Results


@click.group("bench", invoke_without_command=True)
@click.option("--only", multiple=True, metavar="CASE", help="This case only; may be repeated.")
@click.option(
    "--size",
    type=click.Choice(["small", "full", "huge"]),
    default="full",
    show_default=True,
    help="small tries everything out; full is what to quote; huge adds 10 GB of input and 10⁵ series.",
)
@click.option(
    "--rounds", type=click.IntRange(1, 20), help="Of each contender, in turn.  [default: 3, of small size 1]"
)
@click.option("--out", type=options.NEW_FILE, help="Write the results here, after each comparison anew.")
@click.option("--add", is_flag=True, help="Keep the cases that --out has and that do not run now.")
@click.option(
    "--workdir",
    type=options.FOLDER,
    help="Where data are made, kept and written.  [default: hdrs-hpc/bench in your cache folder]",
)
@click.option("--slide", type=options.FILE, help="An Aperio SVS whose tiles the large slide is made of.")
@click.option("--list", "listing", is_flag=True, help="List the cases and leave.")
@options.as_json
@click.pass_context
def bench(
    context: click.Context,
    only: tuple[str, ...],
    size: str,
    rounds: int | None,
    out: Path | None,
    add: bool,
    workdir: Path | None,
    slide: Path | None,
    listing: bool,
    as_json: bool,
) -> None:
    """Measure staging and reading against their peers, in turn, on this machine.

    Data are made of real pixels and kept for the next time (about 8 GB for `full`).  Peers that are not installed
    are named in the table: pip install '.[bench]'.  A `full` run takes about 20 minutes on two cores; nothing
    else should run meanwhile.

    \b
    Example:
      hdrs-hpc bench --size small
      hdrs-hpc bench --only ct-series --only patches --out results.json
      hdrs-hpc bench page results.json
    """
    if context.invoked_subcommand is not None:
        return
    from benchmarks import results, running, show, table
    from benchmarks.bench import Bench
    from benchmarks.sizes import SIZES

    cases = table.chosen(only)
    if listing:
        from hdrs_hpc.cli import show as shown

        rows = [(case.name, case.title) for case in cases]
        if as_json:
            shown.emit_json([{"name": name, "title": title} for name, title in rows])
        else:
            shown.table(("case", "what"), rows, empty="no case")
        return
    if add and out is None:
        raise click.UsageError("--add needs --out")
    before = results.load(out) if add and out is not None and out.exists() else None
    folder = (workdir or running.working_folder()).absolute()
    scratch = folder / f"run-{os.getpid()}"
    scratch.mkdir(mode=0o700, parents=True)
    kept: list[Results] = []

    def save(found: Results) -> None:
        kept[:] = [found if before is None else results.merged(before, found, list(table.CASES))]
        if out is not None:
            _replace(out, kept[0].to_json())

    wanted = rounds or (1 if size == "small" else 3)
    try:
        with _Bars() as bars:
            running.run(cases, Bench(SIZES[size], folder / "data", scratch, bars, slide), wanted, save)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        if kept:
            if as_json:
                click.echo(kept[0].to_json(), nl=False)
            else:
                from rich.console import Console

                show.table(kept[0], Console(highlight=False, width=None if sys.stdout.isatty() else 160))
                if out is not None:
                    click.echo(f"\nWrote {out}.")


@bench.command("page")
@click.argument("results", type=options.FILE)
@click.option(
    "--out",
    type=options.NEW_FILE,
    default=Path("docs/benchmarks.md"),
    show_default=True,
    help="The page; its pictures go into `pictures` beside it.",
)
def page(results: Path, out: Path) -> None:
    """Write the results page of RESULTS; what people wrote on an earlier one stays.

    \b
    Example:
      hdrs-hpc bench page results.json --out benchmarks.md
    """
    from benchmarks import page as pages
    from benchmarks.results import load

    loaded = load(results)
    out.parent.mkdir(parents=True, exist_ok=True)
    for path in pages.write(loaded, out):
        click.echo(f"Wrote {path}.")


@bench.command("plot")
@click.argument("results", type=options.FILE)
@click.argument("folder", type=options.FOLDER)
@click.option("--png", is_flag=True, help="PNG instead of SVG.")
def plot(results: Path, folder: Path, png: bool) -> None:
    """Draw the pictures of RESULTS into FOLDER.

    \b
    Example:
      hdrs-hpc bench plot results.json pictures --png
    """
    from benchmarks import figures
    from benchmarks.results import load

    for path in figures.draw(load(results), folder, "png" if png else "svg"):
        click.echo(f"Wrote {path}.")


@bench.command("show")
@click.argument("results", type=options.FILE)
def show_results(results: Path) -> None:
    """Show the table of RESULTS again.

    \b
    Example:
      hdrs-hpc bench show results.json
    """
    from rich.console import Console

    from benchmarks import show
    from benchmarks.results import load

    show.table(load(results), Console(highlight=False, width=None if sys.stdout.isatty() else 160))


def _replace(path: Path, text: str) -> None:
    """Write whole or not at all: an interrupted benchmark keeps what it had."""
    partial = path.with_name(path.name + ".new")
    partial.write_text(text, "utf-8")
    partial.replace(path)


class _Bars:
    """What is being made and measured, on standard error."""

    def __enter__(self) -> _Bars:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[what]}"),
            TimeElapsedColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._task: Any = None
        self._name = ""
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()

    def making(self, name: str, done: int, total: int) -> None:
        self._show(f"making {name}", "", done, total)

    def running(self, comparison: str, contender: str, number: int, rounds: int) -> None:
        what = f"{contender}, {'warm-up' if number == 0 else f'round {number} of {rounds}'}"
        self._show(f"measuring {comparison}", what, number, rounds)

    def _show(self, name: str, what: str, done: int, total: int) -> None:
        if self._task is None or name != self._name:
            if self._task is not None:
                self._bar.remove_task(self._task)
            self._task, self._name = self._bar.add_task(name, total=total, what=what), name
        self._bar.update(self._task, completed=done, total=total, what=what)
