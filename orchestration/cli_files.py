"""The commands on files: checkpoints that come and go, and data sets. Like `cli`: parse, call, print."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

Form = Literal["jpeg", "raw"]
Format = Literal["torchvision", "timm", "detectron2", "safetensors"]  # formats.FORMATS: importing it loads torch

data = typer.Typer(
    help="Check, download or pack a data set.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

DataSet = Annotated[str, typer.Argument(metavar="NAME", help="A data set, as `dataset:` of a pipeline names it.")]
Root = Annotated[Path | None, typer.Option(metavar="DIR", help="Its folder; data/NAME in the home by default.")]


def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A checkpoint written by torch.save, or safetensors.")],
    as_method: Annotated[str, typer.Option("--as", metavar="METHOD", help="What trained it, such as moco_v2.")],
    dataset: Annotated[str, typer.Option(help="What it was trained on; only recorded.")] = "",
    epochs: Annotated[int | None, typer.Option(min=1, help="For how long; only recorded.")] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Images of a step; only recorded.")] = None,
) -> None:
    """Register a public checkpoint as a finished pre-training; print its stage.

    Recognizes MoCo, CLSA, SimSiam, SwAV, DINO, Barlow Twins, VICReg, solo-learn, lightly, torchvision and timm.
    """
    from orchestration import importing, opening

    home, store = opening.create()
    published = importing.Published(dataset=dataset, epochs=epochs, batch=batch)
    done = importing.register(file, as_method=as_method, published=published, home=home, store=store)
    typer.echo(f"{done.summary}\n{'imported as' if done.is_new else 'already imported:'} run {done.run_id}", err=True)
    typer.echo(done.stage.rstrip())


def export(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A pre-training: its run id or its first characters.")],
    form: Annotated[Format, typer.Option("--format", help="Who is to load it.")] = "safetensors",
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Where to; METHOD-RUN.SUFFIX by default.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite FILE.")] = False,
) -> None:
    """Write the backbone of a pre-training for another project; print the file's name."""
    from orchestration import exporting, opening

    _, store = opening.known()
    done = exporting.export(store, run, form, out=out, force=force)
    typer.echo(f"to load it: {done.load}", err=True)
    typer.echo(str(done.path))


@data.command()
def check(
    name: DataSet,
    root: Root = None,
    decode: Annotated[bool, typer.Option("--decode", help="Decode every image, not only some.")] = False,
) -> None:
    """Say what is missing or wrong in a data set, and print its digest."""
    from orchestration import data_sets, text

    report = data_sets.check(name, _folder(name, root), decode=decode)
    typer.echo(text.of_report(report, color=sys.stdout.isatty()))
    if not report.ok:
        raise typer.Exit(1)


@data.command()
def fetch(name: DataSet, root: Root = None) -> None:
    """Download a data set, from where it stopped if it did; print the folder."""
    from orchestration import data_sets
    from orchestration.display import transfer

    into = _folder(name, root)
    with transfer(sys.stderr, name) as show:
        data_sets.fetch(name, into, show=show)
    typer.echo(str(into))


@data.command()
def pack(
    name: DataSet,
    to: Annotated[Path, typer.Option("--to", metavar="DIR", help="The folder that is made.")],
    root: Root = None,
    form: Annotated[Form, typer.Option("--form", help="JPEG files, or pixels: faster to read, larger.")] = "jpeg",
    side: Annotated[int, typer.Option(min=1, help="Pixels of the shorter side at most.")] = 256,
    quality: Annotated[int, typer.Option(min=1, max=95, help="Of JPEG.")] = 90,
    workers: Annotated[int, typer.Option(min=0, help="Processes; 0: one for each CPU.")] = 0,
    skip: Annotated[int, typer.Option(metavar="N", min=0, help="Leave out up to N damaged images.")] = 0,
) -> None:
    """Write small copies of a data set's images into one file; print its folder.

    It loads faster: name the folder in place of the originals, `--data NAME=DIR`. What was interrupted goes on where it
    stopped.
    """
    from leoclr.data.shrinking import Shrinking
    from orchestration import packing
    from orchestration.display import counting
    from orchestration.storage import expanded

    how = Shrinking(form=form, side=side, quality=quality)
    into = expanded(to, "--to").absolute()
    order = packing.Order(name=name, root=_folder(name, root), to=into, how=how, workers=workers, limit=skip)
    with counting(sys.stderr, name, "images") as show:
        done = packing.pack(order, show)
    left_out = f"; left out {len(done.left_out)}: {', '.join(done.left_out)}" if done.left_out else ""
    said = "" if done.is_new else "already there: "
    typer.echo(f"{said}{done.images:,} images, {done.bytes / 1e6:,.1f} MB{left_out}", err=True)
    typer.echo(str(into))


@data.command()
def push(
    store: Annotated[Path, typer.Argument(metavar="DIR", help="A packed data set, as `data pack` made it.")],
    to: Annotated[str, typer.Argument(metavar="ADDRESS", help="Where to: s3://bucket/prefix.")],
) -> None:
    """Put a packed data set into a bucket, from where it stopped if it did; print the address.

    Name the address in place of a folder, `--data NAME=s3://bucket/prefix`: what is read is kept on this machine, up to
    LEOCLR_OPS_CACHE_BYTES.
    """
    from orchestration import shards
    from orchestration.display import transfer
    from orchestration.storage import expanded

    with transfer(sys.stderr, store.name) as show:
        is_new = shards.push(expanded(store, "DIR").absolute(), to, show)
    if not is_new:
        typer.echo("already there", err=True)
    typer.echo(to)


def _folder(name: str, root: Path | None) -> Path:
    from orchestration.storage import Home, expanded

    return expanded(root, "--root").absolute() if root else Home.default().data(name)
