"""Public checkpoints: `read` takes the trunk out of another project's file, `write` gives a file that it loads."""

from leoclr.formats.layouts import FormatError, Trunk
from leoclr.formats.reading import read
from leoclr.formats.writing import FORMATS, Format, write

__all__ = ["FORMATS", "Format", "FormatError", "Trunk", "read", "write"]
