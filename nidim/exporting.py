"""``nidim export``: a stored encoder as one file that runs without nidim."""

from __future__ import annotations

from pathlib import Path

import click

from nidim.given import NewFile, images_argument, read_images
from nidim.remote import show

ENDINGS = (".onnx", ".pt2")


@click.command()
@click.argument("directory", type=click.Path(exists=True, file_okay=False, path_type=Path))
@images_argument("images", required=False)
@click.option("-o", "--output", type=NewFile(), required=True, help="FILE.onnx or FILE.pt2")
@show.json_option
def export(directory: Path, images: tuple[Path, ...], output: Path, as_json: bool) -> None:
    """Export the encoder in DIRECTORY to one file that needs no nidim: uint8 images in, embeddings out.

    \b
    FILE.onnx    for ONNX Runtime and its kin, anywhere
    FILE.pt2     for PyTorch: a program of torch.export, read by torch.export.load

    Scaling and normalisation are inside, resizing is not; any number of images at a time. The file is compared with the
    encoder on IMAGES and on random pixels: to 1e-4 (.onnx) or 1e-5 (.pt2) of the largest coordinate.
    """
    if output.suffix not in ENDINGS:
        raise click.BadParameter(f"it must end in {' or '.join(ENDINGS)}", param_hint="--output")
    import torch

    from nidim import bundle
    from nidim.onnx_export import export_onnx, some_pixels
    from nidim.program_export import export_program

    encoder = bundle.load(directory)
    sample = some_pixels(encoder.preprocessing.image_size, encoder.preprocessing.channels)
    if images:
        sample = torch.cat([sample, torch.from_numpy(read_images(encoder.preprocessing, images))])
    write = export_onnx if output.suffix == ".onnx" else export_program
    off = write(encoder.model, output, sample=sample)
    if as_json:
        kind = output.suffix.removeprefix(".")
        told = {"encoder": str(directory), "output": str(output), "format": kind}
        show.echo_json({**told, "max_difference": off, "images": len(sample)})
    else:
        click.echo(
            f"Wrote {output}; it differs from the encoder by {off:.1g} at most, over {len(sample)} images."
        )
