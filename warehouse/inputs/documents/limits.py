"""Set the bounds beyond which a file is skipped, so that no file can stop a run."""

from __future__ import annotations

import gzip
import zipfile
from pathlib import Path
from typing import BinaryIO

from warehouse.inputs.documents.document import UnreadableFile
from warehouse.wording import format_count

MEBIBYTE = 1 << 20
MAX_FILE_BYTES = 256 * MEBIBYTE
MAX_MARKUP_BYTES = 32 * MEBIBYTE
"""Of an HTML file, and of each XML part that is read of a DOCX or EPUB file: trees take twenty times that."""
MAX_UNPACKED_BYTES = 512 * MEBIBYTE
"""Of all parts of a DOCX or EPUB file."""
MAX_PARTS = 10_000
MAX_PAGES = 5_000
MAX_DEPTH = 250
"""Elements of HTML within each other; libxml2 has the same bound for what it parses."""

_MEDIA = (".png", ".jpg", ".jpeg", ".gif", ".bmp", ".tif", ".tiff", ".emf", ".wmf", ".svg", ".webp",
          ".ttf", ".otf", ".odttf", ".woff", ".woff2", ".mp3", ".mp4", ".m4a", ".bin", ".css", ".js")  # fmt: skip
"""Parts that are never read."""
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"


def refuse_large(path: Path, limit: int = MAX_FILE_BYTES) -> None:
    """Refuse a file of more bytes.

    Raises:
        UnreadableFile: it has more.
    """
    size = path.stat().st_size
    if size > limit:
        raise UnreadableFile(
            f"has {_mebibytes(size)}, more than the {_mebibytes(limit)} that are read; split it"
        )


def refuse_large_unpacked(path: Path, limit: int) -> None:
    """Refuse a compressed file (.gz, .xlsx) that unpacks to more bytes; others are as they are.

    Raises:
        UnreadableFile: it does.
        EOFError, OSError, zlib.error: it is broken.
    """
    size = 0
    if path.suffix.lower() == ".gz":
        with gzip.open(path) as stream:
            while size <= limit and (chunk := stream.read(MEBIBYTE)):
                size += len(chunk)
    elif path.suffix.lower() == ".xlsx" and zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as package:
            size = sum(part.file_size for part in package.infolist())
        limit = min(limit, MAX_UNPACKED_BYTES)
    if size > limit:
        raise UnreadableFile(
            f"unpacks to more than the {_mebibytes(limit)} that are read; split it"
        )


def open_package(stream: BinaryIO) -> zipfile.ZipFile:
    """Open a zip of XML, whose parts together and each by itself are not too large.

    A part is never unpacked beyond the size that it declares, so the declared sizes bound it.

    Raises:
        UnreadableFile: it is too large unpacked, broken, or protected.
    """
    head = stream.read(len(_OLE))
    stream.seek(0)
    if head == _OLE:
        raise UnreadableFile("is protected by a password, or in an old format; save it without")
    try:
        package = zipfile.ZipFile(stream)
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise UnreadableFile(f"is broken ({error})") from None
    parts = package.infolist()
    if len(parts) > MAX_PARTS:
        raise UnreadableFile(f"has {format_count(len(parts), 'part')}, more than {MAX_PARTS:,}")
    whole = sum(part.file_size for part in parts)
    largest = max(
        (part.file_size for part in parts if not part.filename.lower().endswith(_MEDIA)), default=0
    )
    for size, limit in ((whole, MAX_UNPACKED_BYTES), (largest, MAX_MARKUP_BYTES)):
        if size > limit:
            raise UnreadableFile(
                f"unpacks to {_mebibytes(size)}, more than the {_mebibytes(limit)} that are read"
            )
    if any(part.flag_bits & 1 for part in parts):
        raise UnreadableFile("is protected by a password; save it without")
    return package


def read_part(package: zipfile.ZipFile, name: str) -> bytes:
    """The bytes of a part.

    Raises:
        KeyError: there is none of this name.
        UnreadableFile: it is broken or too large.
    """
    size = package.getinfo(name).file_size
    if size > MAX_MARKUP_BYTES:
        raise UnreadableFile(f"has a part of {_mebibytes(size)}, {name}")
    try:
        return package.read(name)
    except (zipfile.BadZipFile, NotImplementedError, EOFError, OSError, RuntimeError) as error:
        raise UnreadableFile(f"is broken in its part {name} ({error})") from None
    except Exception as error:
        if type(error).__module__ in ("zlib", "_lzma", "_bz2"):
            raise UnreadableFile(f"is broken in its part {name} ({error})") from None
        raise


def refuse_entities(raw: bytes) -> None:
    """Refuse XML that declares entities of its own, which grow without bound.

    Raises:
        UnreadableFile: it does.
    """
    if b"<!ENTITY" in raw or b"<\x00!\x00E\x00N\x00T\x00I\x00T\x00Y" in raw:
        raise UnreadableFile("declares XML entities of its own, which are never expanded here")


def _mebibytes(size: int) -> str:
    return f"{size / MEBIBYTE:,.0f} MiB" if size >= MEBIBYTE else format_count(size, "byte")
