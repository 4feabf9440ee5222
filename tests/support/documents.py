"""Write small documents of each format by hand, as tests need them."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

_CONTENT_TYPES = """<?xml version="1.0"?><Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">
<Default Extension="xml" ContentType="application/xml"/><Default Extension="rels"
ContentType="application/vnd.openxmlformats-package.relationships+xml"/></Types>"""
_RELATIONSHIPS = """<?xml version="1.0"?><Relationships
xmlns="http://schemas.openxmlformats.org/package/2006/relationships"><Relationship Id="r1"
Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument"
Target="word/document.xml"/></Relationships>"""
_STYLES = """<?xml version="1.0"?><w:styles {ns}>
<w:style w:type="paragraph" w:styleId="Heading1"><w:name w:val="heading 1"/></w:style>
<w:style w:type="paragraph" w:styleId="Heading2"><w:name w:val="heading 2"/></w:style>
<w:style w:type="paragraph" w:styleId="Code"><w:name w:val="Code"/></w:style></w:styles>"""
_NS = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'


def pdf_bytes(
    pages: Sequence[Sequence[str] | None], outline: Sequence[tuple[str, int | str]] = ()
) -> bytes:
    """A PDF file with the lines of each page; None is a page with an image alone.

    Args:
        pages: Lines of Latin letters.
        outline: Bookmarks: title and index of the page, or else what stands in its place.
    """
    first = 4
    objects: dict[int, bytes] = {3: b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>"}
    kids = []
    for n, lines in enumerate(pages):
        page, content, image = (first + 3 * n + k for k in range(3))
        kids.append(f"{page} 0 R")
        if lines is None:
            stream = b"q 200 0 0 200 50 50 cm /Im Do Q"
            resources = f"<</XObject<</Im {image} 0 R>>>>"
        else:
            shown = "".join(f"({_escaped(line)}) Tj T*\n" for line in lines)
            stream = f"BT /F 12 Tf 14 TL 50 780 Td\n{shown}ET".encode("latin-1")
            resources = "<</Font<</F 3 0 R>>>>"
        objects[page] = (
            f"<</Type/Page/Parent 2 0 R/MediaBox[0 0 595 842]/Resources{resources}"
            f"/Contents {content} 0 R>>"
        ).encode()
        objects[content] = _stream(stream)
        objects[image] = _stream(
            b"\x80",
            "/Type/XObject/Subtype/Image/Width 1/Height 1/ColorSpace/DeviceGray/BitsPerComponent 8",
        )
    marks = first + 3 * len(pages)
    for n, (title, page) in enumerate(outline):
        links = f"/Prev {marks + n} 0 R" if n else ""
        links += f"/Next {marks + n + 2} 0 R" if n + 1 < len(outline) else ""
        place = page if isinstance(page, str) else f"/Dest[{first + 3 * page} 0 R/Fit]"
        objects[marks + 1 + n] = (
            f"<</Title({_escaped(title)})/Parent {marks} 0 R{links}{place}>>"
        ).encode()
    catalog = "<</Type/Catalog/Pages 2 0 R"
    if outline:
        catalog += f"/Outlines {marks} 0 R"
        objects[marks] = (
            f"<</Type/Outlines/First {marks + 1} 0 R/Last {marks + len(outline)} 0 R/Count {len(outline)}>>"
        ).encode()
    objects[1] = f"{catalog}>>".encode()
    objects[2] = f"<</Type/Pages/Kids[{' '.join(kids)}]/Count {len(pages)}>>".encode()
    out = b"%PDF-1.4\n"
    places = {}
    for number in sorted(objects):
        places[number] = len(out)
        out += b"%d 0 obj\n%b\nendobj\n" % (number, objects[number])
    start = len(out)
    size = max(objects) + 1
    rows = "".join(f"{places[n]:010} 00000 n \n" for n in range(1, size))
    out += f"xref\n0 {size}\n0000000000 65535 f \n{rows}".encode()
    return out + f"trailer<</Size {size}/Root 1 0 R>>\nstartxref\n{start}\n%%EOF\n".encode()


def _stream(raw: bytes, entries: str = "") -> bytes:
    return b"<<%b/Length %d>>\nstream\n%b\nendstream" % (entries.encode(), len(raw), raw)


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("(", r"\(").replace(")", r"\)")


def write_docx(path: Path, body: str, parts: Mapping[str, str] | None = None) -> None:
    """A DOCX file of WordprocessingML, such as `docx_paragraph` makes."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as package:
        package.writestr("[Content_Types].xml", _CONTENT_TYPES)
        package.writestr("_rels/.rels", _RELATIONSHIPS)
        package.writestr("word/styles.xml", _STYLES.format(ns=_NS))
        package.writestr(
            "word/document.xml", f"<w:document {_NS}><w:body>{body}</w:body></w:document>"
        )
        for name, text in (parts or {}).items():
            package.writestr(name, text)


def docx_paragraph(text: str, style: str = "") -> str:
    """A paragraph of WordprocessingML."""
    shown = f'<w:pPr><w:pStyle w:val="{style}"/></w:pPr>' if style else ""
    return f'<w:p>{shown}<w:r><w:t xml:space="preserve">{text}</w:t></w:r></w:p>'


def docx_table(rows: Sequence[Sequence[str]], has_header: bool = False) -> str:
    """A table of WordprocessingML, its first row marked as a header or not."""
    shown = []
    for n, row in enumerate(rows):
        cells = "".join(f"<w:tc>{docx_paragraph(cell)}</w:tc>" for cell in row)
        mark = "<w:trPr><w:tblHeader/></w:trPr>" if has_header and n == 0 else ""
        shown.append(f"<w:tr>{mark}{cells}</w:tr>")
    return f"<w:tbl>{''.join(shown)}</w:tbl>"


def write_epub(
    path: Path, parts: Mapping[str, str], extra: Mapping[str, str] | None = None
) -> None:
    """An EPUB file whose spine is the parts in their order; `nav.xhtml` is its table of contents."""
    items = "".join(
        f'<item id="i{n}" href="{name.replace(" ", "%20")}" media-type="application/xhtml+xml"'
        f"{' properties=' + chr(34) + 'nav' + chr(34) if name == 'nav.xhtml' else ''}/>"
        for n, name in enumerate(parts)
    )
    spine = "".join(f'<itemref idref="i{n}"/>' for n in range(len(parts)))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as package:
        package.writestr("mimetype", "application/epub+zip")
        package.writestr(
            "META-INF/container.xml",
            '<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>'
            '<rootfile full-path="OEBPS/book.opf"/></rootfiles></container>',
        )
        package.writestr(
            "OEBPS/book.opf",
            f'<package xmlns="http://www.idpf.org/2007/opf"><manifest>{items}</manifest>'
            f"<spine>{spine}</spine></package>",
        )
        for name, text in parts.items():
            package.writestr(
                f"OEBPS/{name}",
                f'<html xmlns="http://www.w3.org/1999/xhtml"><head><title>x</title></head><body>{text}</body></html>',
            )
        for name, text in (extra or {}).items():
            package.writestr(name, text)
