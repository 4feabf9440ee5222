"""Documents of every format become passages; what is left out or skipped is counted and named."""

from __future__ import annotations

import gzip
import io
import itertools
import sys
import zipfile

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pypdf import PdfReader, PdfWriter

from tests.support.documents import (
    docx_paragraph,
    docx_table,
    pdf_bytes,
    write_docx,
    write_epub,
)
from warehouse.errors import DataError, MissingExtraError
from warehouse.inputs.documents import (
    DocumentSource,
    limits,
    pdf,
    read_documents,
    read_passages,
    row_fields,
)
from warehouse.inputs.documents.cut import Cutter
from warehouse.inputs.documents.document import Document, DocumentBuilder
from warehouse.inputs.documents.extract import extract
from warehouse.inputs.documents.page_furniture import strip_furniture
from warehouse.inputs.documents.plain_text import paragraphs
from warehouse.inputs.documents.sentences import sentence_spans
from warehouse.text.words import count_words

LINES = [
    "The otter lives in the rivers of the north and eats fish on every day.",
    "It swims very well, and it is a well-known animal that sleeps in the mo-",
    "rning. Mr. Smith has seen many of them.",
]


def read(folder, *patterns, length=200, **options):
    return read_documents(DocumentSource(patterns or (".",), length, **options), folder)


def texts(folder, *patterns, **options):
    return [passage.text for passage in read(folder, *patterns, **options).passages]


def skipped(found):
    return {file.file: file.skipped for file in found.summary.skipped}


def report(*animals):
    """Pages with a header, a page number and a text of their own."""
    return [
        ["ACME report 2024", *(line.replace("otter", animal) for line in LINES[:1])]
        + [f"The {animal} {line}" for line in LINES[1:]]
        + [f"{n} / {len(animals)}"]
        for n, animal in enumerate(animals, start=1)
    ]


def test_a_pdf_keeps_pages_and_headings_and_drops_what_repeats(tmp_path):
    (tmp_path / "a.pdf").write_bytes(
        pdf_bytes(report("otter", "seal", "bear", "wolf"), [("Rivers", 0), ("Lakes", 2)])
    )
    found = read(tmp_path, "a.pdf", length=40)
    whole = " ".join(passage.text for passage in found.passages)
    assert "ACME" not in whole and "/ 4" not in whole
    assert "Mr. Smith has seen" in whole and "sleeps in the mo" in whole
    pages = {heading: {p.page for p in found.passages if p.heading == heading}
             for heading in ("Rivers", "Lakes")}  # fmt: skip
    assert pages == {"Rivers": {1, 2}, "Lakes": {3, 4}}
    lakes = next(passage for passage in found.passages if passage.heading == "Lakes")
    assert lakes.source.startswith("a.pdf, page") and lakes.text.startswith(
        "Lakes\n\nThe bear lives"
    )
    assert found.summary.files[0].pages == 4
    assert found.summary.dropped == {"header and footer lines": 8}
    assert "'ACME report #'" in found.summary.dropped_lines()[1]


def test_a_paragraph_of_a_pdf_goes_on_over_the_end_of_a_page(tmp_path):
    pages = [[*LINES[:2], "1"], [LINES[2], "2"]]
    (tmp_path / "a.pdf").write_bytes(pdf_bytes(pages))
    (passage,) = read(tmp_path).passages
    assert "sleeps in the morning. Mr." in passage.text
    assert (passage.page, passage.last_page) == (1, 2)
    assert passage.source == "a.pdf, pages 1-2"


def test_bookmarks_that_lead_nowhere_are_counted(tmp_path):
    nowhere = ["/Dest(no such name)", "/Dest[999 0 R/Fit]", "", "/A<</S/URI/URI(x)>>"]
    outline = [("Rivers", 0), *(("Lost", place) for place in nowhere), ("Lakes", 1)]
    (tmp_path / "a.pdf").write_bytes(pdf_bytes([LINES, ["Lakes are deep."]], outline))
    found = read(tmp_path, length=25)
    assert [passage.heading for passage in found.passages] == ["Rivers", "Rivers", "Lakes"]
    assert found.summary.dropped == {"bookmarks that lead to no page": 4}


def test_a_bookmark_without_a_page_stands_over_those_within_it(tmp_path):
    writer = PdfWriter(clone_from=PdfReader(io.BytesIO(pdf_bytes([LINES, ["Lakes are deep."]]))))
    part = writer.add_outline_item("Part", None)
    writer.add_outline_item("Rivers", 0, parent=part)
    writer.add_outline_item("Lakes", 1, parent=part)
    writer.write(tmp_path / "a.pdf")
    found = read(tmp_path, length=25)
    assert {passage.heading for passage in found.passages} == {"Part > Rivers", "Part > Lakes"}
    assert not found.summary.dropped


def test_broken_bookmarks_are_told(tmp_path, monkeypatch):
    def fail(self):
        raise ValueError("no tree")

    monkeypatch.setattr("pypdf.PdfReader.outline", property(fail))
    (tmp_path / "a.pdf").write_bytes(pdf_bytes([LINES], [("Rivers", 0)]))
    (line,) = read(tmp_path).summary.dropped_lines()
    assert line == "a.pdf: its bookmarks are broken, so it has no headings (no tree)"


def test_words_that_a_line_parts_are_joined_as_they_are_elsewhere(tmp_path):
    line = "A line that is long enough to reach the edge of the page, for a well-"
    (tmp_path / "a.pdf").write_bytes(pdf_bytes([[line, "known animal. It is well-known."]]))
    assert "for a well-known animal" in texts(tmp_path)[0]


def test_a_scan_an_encrypted_and_a_broken_pdf_are_named_and_the_rest_goes_on(tmp_path):
    sound = pdf_bytes([LINES])
    (tmp_path / "a.pdf").write_bytes(sound)
    (tmp_path / "half.pdf").write_bytes(pdf_bytes([LINES, None, []]))
    (tmp_path / "scan.pdf").write_bytes(pdf_bytes([None, None]))
    (tmp_path / "empty.pdf").write_bytes(b"")
    (tmp_path / "cut.pdf").write_bytes(sound[:200])
    for name, password in (("secret.pdf", "x"), ("owner.pdf", "")):
        writer = PdfWriter(clone_from=PdfReader(io.BytesIO(sound)))
        writer.encrypt(password, "owner", algorithm="AES-256")
        writer.write(tmp_path / name)
    found = read(tmp_path)
    assert {file.file for file in found.summary.read} == {"a.pdf", "half.pdf", "owner.pdf"}
    reasons = skipped(found)
    assert "2 are images: a scan; run OCR" in reasons.pop("scan.pdf")
    assert "is encrypted; save it without its password" in reasons.pop("secret.pdf")
    assert reasons.keys() == {"empty.pdf", "cut.pdf"}
    assert all(reason.startswith("is broken") and "\n" not in reason for reason in reasons.values())
    assert found.summary.dropped["pages without text, images"] == 1
    assert found.summary.dropped["blank pages"] == 1


def test_a_pdf_with_too_many_pages_or_bytes_is_skipped(tmp_path, monkeypatch):
    (tmp_path / "long.pdf").write_bytes(pdf_bytes([LINES] * 3))
    (tmp_path / "a.txt").write_text("Some words.")
    monkeypatch.setattr(pdf, "MAX_PAGES", 2)
    assert "has 3 pages, more than the 2" in skipped(read(tmp_path))["long.pdf"]
    monkeypatch.setattr(limits.refuse_large, "__defaults__", (300,))
    with pytest.raises(DataError, match="split it"):
        read(tmp_path, "*.pdf", column="other")


def test_docx_headings_tables_code_and_what_is_beside_the_text(tmp_path):
    body = (
        docx_paragraph("Guide", "Heading1")
        + docx_paragraph("A first sentence. A second one.")
        + docx_paragraph("Install", "Heading2")
        + docx_paragraph("pip install x", "Code")
        + docx_paragraph("distill  run", "Code")
        + docx_table([["Name", "Size"], ["a|b", "1"]])
    )
    header = "<w:hdr xmlns:w='w'><w:p><w:r><w:t>Secret</w:t></w:r></w:p></w:hdr>"
    write_docx(tmp_path / "a.docx", body, {"word/header1.xml": header, "word/header2.xml": "<w/>"})
    document = extract(tmp_path / "a.docx", "a.docx").documents[0]
    assert [(b.kind, document.text[b.start : b.end]) for b in document.blocks] == [
        ("heading", "Guide"),
        ("text", "A first sentence. A second one."),
        ("heading", "Install"),
        ("code", "pip install x\ndistill  run"),
        ("table", "| Name | Size |\n| a\\|b | 1 |"),
    ]
    found = read(tmp_path, length=8)
    assert [passage.heading for passage in found.passages] == [
        "Guide",
        "Guide > Install",
        "Guide > Install",
    ]
    assert found.summary.dropped == {"page headers": 1}


def test_docx_faults_are_named(tmp_path, monkeypatch):
    write_docx(tmp_path / "bomb.docx", docx_paragraph("x" * 100_000))
    nested = "<w:sdt><w:sdtContent>" * 1000 + "</w:sdtContent></w:sdt>" * 1000
    write_docx(tmp_path / "deep.docx", nested)
    write_docx(tmp_path / "entity.docx", "", {"word/x.xml": '<!DOCTYPE a [<!ENTITY a "b">]><a/>'})
    write_docx(tmp_path / "bad.docx", "<w:p>")
    (tmp_path / "old.docx").write_bytes(bytes.fromhex("d0cf11e0a1b11ae1") + bytes(600))
    (tmp_path / "no.docx").write_bytes(b"PK no zip")
    with zipfile.ZipFile(tmp_path / "other.docx", "w") as package:
        package.writestr("x.txt", "x")
    (tmp_path / "a.txt").write_text("Some words.")
    monkeypatch.setattr(limits, "MAX_MARKUP_BYTES", 90_000)
    reasons = skipped(read(tmp_path))
    expected = {
        "bomb.docx": "unpacks to 100,", "deep.docx": "too deeply", "entity.docx": "entities",
        "bad.docx": "is broken", "old.docx": "password", "no.docx": "is broken", "other.docx": "is broken",
    }  # fmt: skip
    assert reasons.keys() == expected.keys()
    assert all(
        part in reasons[name] and "\n" not in reasons[name] for name, part in expected.items()
    )


def test_an_epub_is_read_in_its_order(tmp_path):
    parts = {
        "nav.xhtml": "<nav>Contents</nav>",
        "z one.xhtml": '<a id="x"/><h1>第一章</h1><p>水獭吃鱼。它游泳！</p><script src="x"/>',
        "a.xhtml": "<h1>Two</h1><p>A<br/>b.</p><ul><li>c<ol><li>d</li></ol></li></ul><pre>if x:\n  y</pre>",
    }
    write_epub(tmp_path / "a.epub", parts)
    document = extract(tmp_path / "a.epub", "a.epub").documents[0]
    assert (
        document.text == "第一章\n\n水獭吃鱼。它游泳！\n\nTwo\n\nA\nb.\n\n- c\n  1. d\n\nif x:\n  y"
    )
    assert document.blocks[-1].kind == "code"
    found = read(tmp_path, length=5)
    assert found.summary.dropped["tables of contents"] == 1
    assert found.passages[0].heading == "第一章"


def test_epub_faults_are_named(tmp_path):
    write_epub(tmp_path / "deep.epub", {"a.xhtml": "<div>" * 1000})
    protected = '<e><CipherReference URI="OEBPS/a.xhtml"/></e>'
    write_epub(tmp_path / "drm.epub", {"a.xhtml": "x"}, {"META-INF/encryption.xml": protected})
    with zipfile.ZipFile(tmp_path / "none.epub", "w") as package:
        package.writestr("x", "x")
    (tmp_path / "a.txt").write_text("Some words.")
    reasons = skipped(read(tmp_path))
    assert "nests more than 250" in reasons["deep.epub"]
    assert "DRM" in reasons["drm.epub"]
    assert "has no META-INF/container.xml" in reasons["none.epub"]


def test_a_part_that_a_book_lists_again_is_read_once(tmp_path):
    write_epub(tmp_path / "a.epub", {"a.xhtml": "<p>Otters swim.</p>", "b.xhtml": "<p>Well.</p>"})
    with zipfile.ZipFile(tmp_path / "a.epub") as package:
        parts = {name: package.read(name) for name in package.namelist()}
    parts["OEBPS/book.opf"] = parts["OEBPS/book.opf"].replace(
        b'<itemref idref="i0"/>', b'<itemref idref="i0"/>' * 2000
    )
    with zipfile.ZipFile(tmp_path / "a.epub", "w") as package:
        for name, raw in parts.items():
            package.writestr(name, raw)
    found = read(tmp_path)
    assert [passage.text for passage in found.passages] == ["Otters swim.\n\nWell."]
    assert found.summary.dropped == {"parts listed again": 1999}


def test_rows_that_unpack_to_too_much_are_skipped(tmp_path, monkeypatch):
    with gzip.open(tmp_path / "a.jsonl.gz", "wt") as stream:
        stream.write('{"text": "Some words."}\n' + " " * 100_000)
    with zipfile.ZipFile(tmp_path / "b.xlsx", "w", zipfile.ZIP_DEFLATED) as package:
        package.writestr("xl/worksheets/sheet1.xml", " " * 100_000)
    (tmp_path / "c.jsonl.gz").write_bytes((tmp_path / "a.jsonl.gz").read_bytes()[:60])
    (tmp_path / "d.txt").write_text("Some words.")
    assert read(tmp_path, "a.jsonl.gz").passages
    monkeypatch.setattr(row_fields, "_MAX_BYTES", 90_000)
    reasons = skipped(read(tmp_path, "*.gz", "*.xlsx", "*.txt"))
    assert reasons.keys() == {"a.jsonl.gz", "b.xlsx", "c.jsonl.gz"}
    assert "unpacks to more than the 90,000 bytes" in reasons["a.jsonl.gz"]
    assert "unpacks to more than" in reasons["b.xlsx"]
    assert reasons["c.jsonl.gz"].startswith("cannot be read")


def test_a_field_without_texts_is_told(tmp_path):
    pl.DataFrame({"text": [["a", "b"]]}).write_parquet(tmp_path / "a.parquet")
    with pytest.raises(DataError, match="has no text in its field 'text': no value is a text"):
        read(tmp_path)


PAGE = """<html><head><title>x</title><style>p {}</style></head><body><nav><a href="/">Home</a> Menu</nav>
<article><h1>Otters</h1><p>Otters live in rivers and lakes, where they eat fish, crabs and frogs.</p>
<h2>Sizes</h2><p>The giant otter of the Amazon is the longest of them all, at nearly two metres.</p>
<pre>def f():\n    return 1</pre><table><tr><th>Name</th><th>m</th></tr><tr><td>giant</td><td>1.8</td></tr></table>
</article><footer>Copyright ACME</footer></body></html>"""


def test_html_without_its_menus(tmp_path):
    (tmp_path / "a.html").write_text(PAGE)
    document = extract(tmp_path / "a.html", "a.html").documents[0]
    assert [b.kind for b in document.blocks] == [
        "heading",
        "text",
        "heading",
        "text",
        "code",
        "table",
    ]
    assert document.text.endswith(
        "def f():\n    return 1\n\n| Name | m |\n| --- | --- |\n| giant | 1.8 |"
    )
    assert "Menu" not in document.text and "Copyright" not in document.text
    assert read(tmp_path).summary.dropped["words outside the main text"] == 4


LIFE = "Otters live in rivers and lakes, where they eat fish, crabs and frogs at all hours."
SIZES = "The giant otter of the Amazon is the longest of them all, at nearly two metres."
TABLE = "<table><tr><th>Name</th><th>m</th></tr><tr><td>giant</td><td>1.8</td></tr></table>"
MENU = '<ul><li><a href="/">Home</a></li><li><a href="/b">About the company</a></li></ul>'


@pytest.mark.parametrize(
    "body",
    [
        f"<div>{MENU}</div><h1>Otters</h1><p>{LIFE}</p><h2>Sizes</h2><p>{SIZES}</p>{TABLE}",
        f"<nav>{MENU}</nav><div><h1>Otters</h1><div>{LIFE}</div><h2>Sizes</h2><div>{SIZES}</div>"
        f"{TABLE}<h2>See also</h2></div><div><a href='/x'>Imprint</a></div>",
        f"<header><h1>Otters</h1></header><section><p>{LIFE}</p></section><section><header><h2>"
        f"<a href='#s'>Sizes</a></h2></header><p>{SIZES}</p>{TABLE}</section>"
        f"<aside><h2>Ad</h2><p>Buy a boat, it is cheap.</p></aside>",
    ],
    ids=["flat", "divs", "sections"],
)
def test_html_keeps_its_headings_without_an_article(tmp_path, body):
    (tmp_path / "a.html").write_text(f"<html><body>{body}</body></html>")
    document = extract(tmp_path / "a.html", "a.html").documents[0]
    assert [document.text[block.start : block.end] for block in document.blocks] == [
        "Otters", LIFE, "Sizes", SIZES, "| Name | m |\n| --- | --- |\n| giant | 1.8 |",
    ]  # fmt: skip
    found = [passage.heading for passage in read(tmp_path, length=16).passages]
    assert found == ["Otters", "Otters > Sizes", "Otters > Sizes"]


def test_headings_whose_text_is_not_in_the_main_text_stay_out(tmp_path):
    more = "".join(f"<h2>{name}</h2>{MENU}" for name in ("Related", "Elsewhere"))
    page = f"<html><body><h1>Otters</h1><p>{LIFE}</p><aside>{more}</aside></body></html>"
    (tmp_path / "a.html").write_text(page)
    assert texts(tmp_path) == [f"Otters\n\n{LIFE}"]


def test_headings_that_cannot_be_put_back_are_counted(tmp_path, monkeypatch):
    monkeypatch.setattr("trafilatura.extract", lambda *_, **__: f"<p>{SIZES} Other words.</p>" * 3)
    (tmp_path / "a.html").write_text(f"<html><body><h1>Sizes</h1><p>{SIZES}</p></body></html>")
    found = read(tmp_path)
    assert "Other words." in found.passages[0].text
    assert found.summary.dropped == {"headings whose place in the main text is not known": 1}


@pytest.mark.parametrize("tag", ["nav", "div"])
def test_a_page_of_menus_alone_is_no_text(tmp_path, tag):
    footer = "<footer>Copyright ACME. All rights reserved.</footer>"
    (tmp_path / "menu.html").write_text(
        f"<html><body><{tag}><h2>Menu</h2>{MENU * 9}</{tag}>{footer}</body></html>"
    )
    (tmp_path / "short.html").write_text("<html><body><p>Otters swim.</p></body></html>")
    found = read(tmp_path)
    assert skipped(found) == {"menu.html": "holds menus and links alone, no text"}
    assert [passage.text for passage in found.passages] == ["Otters swim."]


@pytest.mark.parametrize("charset", ["gbk", "windows-1252", "no-such"])
def test_html_in_the_encoding_that_it_names(tmp_path, charset):
    text = "水獭吃鱼。" if charset == "gbk" else "Käse ißt man."
    encoding = "utf-8" if charset == "no-such" else charset
    page = f'<html><head><meta charset="{charset}"></head><body><p>{text}</p></body></html>'
    (tmp_path / "a.html").write_bytes(page.encode(encoding))
    assert texts(tmp_path) == [text]


@pytest.mark.parametrize("part", ["<", "&", "<!--", "<a x='", "<![CDATA[", "<script>", "<b>x</b> "])
def test_html_that_is_no_html_ends(tmp_path, part):
    (tmp_path / "x.html").write_text(f"words {part * 50_000}")
    assert extract(tmp_path / "x.html", "x.html").documents


def test_html_that_nests_too_deeply_is_skipped(tmp_path):
    (tmp_path / "a.txt").write_text("Some words.")
    (tmp_path / "x.html").write_text("<div>" * 100_000 + "x")
    assert "nests more than 250" in skipped(read(tmp_path))["x.html"]


MARKDOWN = """---
title: x
---
# Otters

They swim. They eat fish.
<!-- a note
of the author -->

```python
# no heading
<!-- kept -->

x = 1
```

| a | b |
|---|---|
| 1 | 2 |

Sizes
-----

- small ones
- large ones
  that are long

    indented(code)
"""


def test_markdown_blocks(tmp_path):
    (tmp_path / "a.md").write_text(MARKDOWN)
    found = extract(tmp_path / "a.md", "a.md")
    document = found.documents[0]
    assert [(b.kind, document.text[b.start : b.end]) for b in document.blocks] == [
        ("heading", "# Otters"),
        ("text", "They swim. They eat fish."),
        ("code", "```python\n# no heading\n<!-- kept -->\n\nx = 1\n```"),
        ("table", "| a | b |\n|---|---|\n| 1 | 2 |"),
        ("heading", "Sizes\n-----"),
        ("text", "- small ones\n- large ones\n  that are long"),
        ("text", "indented(code)"),  # in a list it may belong to an item
    ]
    assert found.dropped == {"lines of front matter": 3, "comments": 1}
    assert read(tmp_path, length=4).passages[-1].heading == "Otters > Sizes"


@pytest.mark.parametrize(
    ("line", "title"),
    [
        ("## Sizes ##", "Sizes"),
        ("# The **giant** *otter* of the [Amazon](x.md)", "The giant otter of the Amazon"),
        ("# `a_b` and _c_ and snake_case_name {#id .x}", "a_b and c and snake_case_name"),
        ("# ![logo](x.png) Otters &amp; seals <a name='x'></a>", "Otters & seals"),
        ("# 2 \\* 3 * 4 in C #", "2 * 3 * 4 in C"),
        ("# In C\\# and `**x**`", "In C# and **x**"),
        ("The *giant*\notter\n=====", "The giant otter"),
    ],
)
def test_a_heading_of_markdown_is_what_a_reader_sees(tmp_path, line, title):
    (tmp_path / "a.md").write_text(f"{line}\n\nSome words.\n")
    (passage,) = read(tmp_path).passages
    assert (passage.heading, passage.text) == (title, f"{line}\n\nSome words.")


def _in_all_formats(folder):
    """One document with two levels of headings and a table, in each format."""
    rows = "".join(f"<tr><td>otter {n}</td><td>{n} m</td></tr>" for n in range(9))
    table = (
        f"<table><thead><tr><th>Name</th><th>Size</th></tr></thead><tbody>{rows}</tbody></table>"
    )
    body = f"<h1>Otters</h1><p>{LIFE}</p><h2>Sizes in C #</h2><p>{SIZES}</p>{table}"
    cells = [["Name", "Size"], *([f"otter {n}", f"{n} m"] for n in range(9))]
    lines = [f"| {' | '.join(row)} |" for row in cells]
    lines.insert(1, "| --- | --- |")
    table_lines = "\n".join(lines)
    (folder / "a.md").write_text(
        f"# Otters\n\n{LIFE}\n\n## Sizes in C \\#\n\n{SIZES}\n\n{table_lines}\n"
    )
    (folder / "a.html").write_text(f"<html><body><article>{body}</article></body></html>")
    (folder / "flat.html").write_text(f"<html><body><nav>{MENU}</nav>{body}</body></html>")
    write_epub(folder / "a.epub", {"a.xhtml": body})
    write_docx(
        folder / "a.docx",
        docx_paragraph("Otters", "Heading1")
        + docx_paragraph(LIFE)
        + docx_paragraph("Sizes in C #", "Heading2")
        + docx_paragraph(SIZES)
        + docx_table(cells, has_header=True),
    )
    sizes = ["Sizes in C #", SIZES, *("   ".join(row) for row in cells)]
    writer = PdfWriter(clone_from=PdfReader(io.BytesIO(pdf_bytes([["Otters", LIFE], sizes]))))
    otters = writer.add_outline_item("Otters", 0)
    writer.add_outline_item("Sizes in C #", 1, parent=otters)
    writer.write(folder / "a.pdf")
    return table_lines


def test_headings_and_tables_are_alike_in_all_formats(tmp_path):
    table = _in_all_formats(tmp_path)
    names = ["a.md", "a.html", "flat.html", "a.epub", "a.docx", "a.pdf"]
    for name in names:
        found = read(tmp_path, name, length=20).passages
        headings = [passage.heading for passage in found]
        assert headings[0] == "Otters" and set(headings[1:]) == {"Otters > Sizes in C #"}, name
        if name != "a.pdf":  # which does not say what is a table
            assert found[-1].text == table, name
    joined = " ".join(passage.text for passage in read(tmp_path, "a.pdf", length=20).passages)
    assert all(f"otter {n} {n} m" in " ".join(joined.split()) for n in range(9))


def test_tables_and_code_stay_whole_and_sentences_too(tmp_path):
    table = "\n".join(["| a | b |", "|---|---|", *(f"| {n} | {n} |" for n in range(8))])
    code = "```\n" + "one two\n" * 9 + "```"
    text = f"First sentence is here. Second sentence is here.\n\n{table}\n\n{code}\n"
    (tmp_path / "a.md").write_text(text)
    found = texts(tmp_path, length=15)
    assert any(table in passage for passage in found) and any(code in passage for passage in found)
    (tmp_path / "a.md").write_text(table + "\n| x | y |" * 200)
    summary = read(tmp_path, length=15).summary
    assert summary.passages > 1 and "1 table or code block too long" in summary.dropped_lines()[-1]


def test_rows_have_their_text_in_a_column(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"body": "One row."}\n{"text": "x"}\n{"body": "One row."}\n')
    pl.DataFrame({"body": ["Two.", None]}).write_csv(tmp_path / "b.csv")
    pl.DataFrame({"body": ["Three."]}).write_parquet(tmp_path / "c.parquet")
    pl.DataFrame({"text": ["Four."]}).write_csv(tmp_path / "d.csv")
    (tmp_path / "e.jsonl").write_text('{"body": "x"}\n{"body": ')
    (tmp_path / "f.json").write_text('[{"body": "Five."}]')
    found = read(tmp_path, column="body")
    assert [(p.text, p.source) for p in found.passages] == [
        ("One row.", "a.jsonl line 1"), ("Two.", "b.csv row 2"), ("Three.", "c.parquet row 1"),
    ]  # fmt: skip
    assert found.summary.dropped == {"rows without a text 'body'": 2, "repeated passages": 1}
    assert skipped(found)["d.csv"] == "has no text in a field 'body' (it has: text)"
    assert skipped(found)["e.jsonl"].startswith("line 2 is not JSON")
    assert found.summary.other_kinds == {".json": 1}
    assert texts(tmp_path, "*.json", column="body") == ["Five."]


def test_text_in_other_encodings(tmp_path):
    (tmp_path / "a.txt").write_bytes("Der Käse ist weiß.".encode("cp1252"))
    (tmp_path / "b.txt").write_bytes("Zwei Füße.".encode("utf-16"))
    (tmp_path / "c.txt").write_bytes("水獭吃鱼。".encode("gbk"))
    (tmp_path / "d.txt").write_bytes(b"PNG\x00\x00\x01 and so on, for a while \x00")
    found = read(tmp_path)
    assert [passage.text for passage in found.passages] == ["Der Käse ist weiß.", "Zwei Füße."]
    assert "read as Windows-1252" in found.summary.dropped_lines()[0]
    assert "is not UTF-8" in skipped(found)["c.txt"] and "zero bytes" in skipped(found)["d.txt"]


def test_offsets_are_those_of_the_text(tmp_path):
    text = "A first paragraph. It has two.\r\n\r\nA second, 水獭吃鱼。它游泳。\r\n"
    (tmp_path / "a.txt").write_bytes(text.encode())
    whole = text.replace("\r\n", "\n")
    for passage in read(tmp_path, length=4).passages:
        assert whole[passage.start : passage.end] == passage.text


def test_a_folder_that_grew_gives_the_same_passages_for_the_old_files(tmp_path):
    (tmp_path / "b.txt").write_text("Some words. Others.")
    (tmp_path / "r.jsonl").write_text('{"text": "Old row."}\n')
    before = read(tmp_path, length=2).passages
    (tmp_path / "a.txt").write_text("New words.")
    (tmp_path / "r.jsonl").write_text('{"text": "New row."}\n{"text": "Old row."}\n')
    after = {passage.passage_id: passage.text for passage in read(tmp_path, length=2).passages}
    assert {p.passage_id: p.text for p in before}.items() <= after.items()
    assert len(after) == len(before) + 2


def test_links_hidden_files_and_other_kinds(tmp_path):
    docs = tmp_path / "docs"
    (docs / "deep").mkdir(parents=True)
    (docs / "deep" / "a.txt").write_text("Some words.")
    (docs / ".git").mkdir()
    (docs / ".git" / "x.md").write_text("x")
    (docs / "picture.png").write_bytes(b"x")
    (docs / "circle").symlink_to(docs)
    (docs / "deep" / "up").symlink_to(docs)
    (docs / "self").symlink_to("self")
    (docs / "alias.txt").symlink_to(docs / "deep" / "a.txt")
    for pattern in ("docs", "docs/**", "docs/**/*", "d*/**/*.txt", "docs/**/deep/*.txt"):
        found = read(tmp_path, pattern)
        assert [passage.file for passage in found.passages] == ["docs/deep/a.txt"], pattern
    lines = read(tmp_path, "docs").summary.skipped_lines()
    assert lines == [
        "skipped: 1 file of other kinds (.png)",
        "skipped: hidden files and folders: 1",
        "skipped: folders and links that cannot be opened: 1",
        "skipped: links to files that are read under another name: 1",
    ]


@pytest.mark.parametrize("pattern", ["none.txt", "none/**/*.md", "*.png"])
def test_a_pattern_without_a_document_is_named(tmp_path, pattern):
    (tmp_path / "x.png").write_bytes(b"x")
    with pytest.raises(DataError, match="no document"):
        read(tmp_path, pattern)


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("empty/", "there are no files;"),
        ("hidden/", "there are no files beside 1 hidden;"),
        ("pictures/", "2 files, none of a kind that is read (.png, without a suffix);"),
        ("pictures/*.png", "1 file, none of a kind that is read (.png);"),
        ("rows/", "1 file, none of a kind that is read (.json);"),
        ("none/", "give a file, a folder or a glob of .txt, .text, .md"),
    ],
)
def test_a_folder_without_a_document_lists_what_is_read(tmp_path, pattern, why):
    for name in ("hidden/.x.txt", "pictures/x.png", "pictures/x", "rows/x.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError) as raised:
        read(tmp_path, pattern)
    message = str(raised.value)
    assert why in message and "\n" not in message
    for kind in (".md", ".html", ".pdf", ".docx", ".epub", ".jsonl", ".csv", ".parquet"):
        assert f"{kind}, " in message or f"{kind};" in message
    assert message.endswith("where the pattern names them also .json, .tsv, .xlsx")


def test_passages_in_several_files_are_counted(tmp_path):
    for name, text in (("a", "One. Two. Three."), ("b", "Two. One. Four."), ("c", "One. Five.")):
        (tmp_path / f"{name}.txt").write_text(text)
    summary = read(tmp_path, length=1).summary
    assert (summary.passages, summary.shared, summary.copies) == (8, 2, 3)
    told = "2 passages stand in several files and are asked about once; left out: 3 copies"
    assert told in summary.lines()
    assert not read(tmp_path, "a.txt", length=1).summary.shared_lines()


def test_documents_without_a_passage_are_an_error_with_the_reasons(tmp_path):
    (tmp_path / "scan.pdf").write_bytes(pdf_bytes([None]))
    (tmp_path / "blank.txt").write_text(" \n")
    with pytest.raises(DataError, match=r"blank.txt has no words.*scan.pdf has no text"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("name", "module"),
    [("a.pdf", "pypdf"), ("a.docx", "mammoth"), ("a.html", "trafilatura"), ("a.epub", "lxml")],
)
def test_a_missing_library_names_the_extra(tmp_path, monkeypatch, name, module):
    (tmp_path / "a.pdf").write_bytes(pdf_bytes([LINES]))
    (tmp_path / "a.html").write_text(PAGE)
    write_docx(tmp_path / "a.docx", docx_paragraph("x"))
    write_epub(tmp_path / "a.epub", {"a.xhtml": "x"})
    for loaded in [key for key in sys.modules if key.partition(".")[0] == module]:
        monkeypatch.delitem(sys.modules, loaded)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=r"stillhouse\[documents\]") as raised:
        read(tmp_path, name)
    assert "\n" not in str(raised.value) and name in str(raised.value)


def test_tokens_of_a_tokenizer_are_counted(tmp_path):
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")  # a token for each character
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "a.txt").write_text("abc. " * 10)
    found = texts(tmp_path, "a.txt", length=9, tokenizer="tokenizer.json")
    assert found == ["abc. abc."]  # the others repeat it
    with pytest.raises(DataError, match="no tokenizer 'none'"):
        read(tmp_path, "a.txt", tokenizer="none")


def test_whole_documents(tmp_path):
    (tmp_path / "a.md").write_text("# A\n\nOne. Two.\n\n# B\n\nThree.\n")
    (passage,) = read(tmp_path, length=None).passages
    assert passage.text == "# A\n\nOne. Two.\n\n# B\n\nThree."
    with pytest.raises(ValueError, match="1 or more"):
        DocumentSource(("a",), 0)
    with pytest.raises(ValueError, match="documents are files"):
        DocumentSource(())


def test_windows_read_books_that_are_named(tmp_path, caplog):
    (tmp_path / "a.pdf").write_bytes(pdf_bytes([LINES]))
    (tmp_path / "b.pdf").write_bytes(pdf_bytes([None]))
    (tmp_path / "c.txt").write_text("Some words.")
    (first, *_) = read_passages("*.pdf", tmp_path, words=5, overlap=0)
    assert (first.text, first.source) == ("The otter lives in the", "a.pdf, words 1-5")
    assert "b.pdf skipped: it has no text" in caplog.text
    assert [p.source for p in read_passages("*", tmp_path)] == ["c.txt, words 1-2"]
    assert "name others, such as 'docs/**/*.pdf'" in caplog.text
    with pytest.raises(DataError, match="b.pdf has no text"):
        read_passages("b.pdf", tmp_path)


def test_furniture_is_what_repeats_at_the_edge_and_nothing_else():
    def kept(*pages):
        return strip_furniture(pages)[0]

    titles = [[f"Section {n}", f"body {'abc'[n]}"] for n in range(3)]
    assert kept(*titles) == titles
    numbered = [[f"body {'abcdef'[n]}", f"Journal of Otters, page {n + 7}"] for n in range(6)]
    assert kept(*numbered) == [page[:1] for page in numbered]
    left_right = [["Book" if n % 2 else "Chapter", f"body {'abcdefgh'[n]}", ""] for n in range(8)]
    assert kept(*left_right) == [[page[1]] for page in left_right]
    inside = [[*"xyz"[: n + 1], "a", "b", "c", "same", "d", "e", *"uvw"[: n + 1]] for n in range(3)]
    assert all("same" in page for page in kept(*inside))
    pairs = [["Same title", "body a", "1"], ["Same title", "body b", "2"]]
    assert kept(*pairs) == [page[:2] for page in pairs]
    assert kept(["7"], ["x"]) == [["7"], ["x"]]


def test_sentences_of_several_scripts():
    def cut(text):
        return [text[start:end] for start, end in sentence_spans(text)]

    assert cut("Mr. Smith is 3.5 m tall. He\nwalks.") == ["Mr. Smith is 3.5 m tall.", "He\nwalks."]
    assert cut("水獭吃鱼。它游得好！对吗？") == ["水獭吃鱼。", "它游得好！", "对吗？"]
    assert cut("यह एक वाक्य है। यह दूसरा है।") == ["यह एक वाक्य है।", "यह दूसरा है।"]
    assert cut("- one\n- two\n  goes on") == ["- one", "- two\n  goes on"]
    long = "水獭生活在河里，每天吃鱼。" * 1000
    assert cut(long) == ["水獭生活在河里，每天吃鱼。"] * 1000
    assert cut("Otters’ lives are short. " * 500) == ["Otters’ lives are short."] * 500


def test_scraps_at_the_end_of_a_section_are_shared():
    text = "one two three four. " * 5 + "five six."
    document = Document(text, paragraphs(text))
    sizes = [count_words(text[s.start : s.end]) for s in Cutter(20, count_words).cut(document)]
    assert sizes == [12, 10]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["heading", "text", "table", "code"]),
            st.text("ab .。\n,水", min_size=1, max_size=80),
            st.integers(1, 3),
        ),
        max_size=12,
    ),
    st.integers(1, 12),
)
def test_passages_hold_all_of_a_document_and_keep_their_length(blocks, length):
    builder = DocumentBuilder()
    for kind, text, level in blocks:
        builder.add(kind, text, level)
    document = builder.build()
    cutter = Cutter(length, count_words)
    found = cutter.cut(document)
    assert all(left.end <= right.start for left, right in itertools.pairwise(found))
    assert "".join("".join(document.text[s.start : s.end] for s in found).split()) == "".join(
        document.text.split()
    )
    if all(block.kind == "text" for block in document.blocks):
        assert all(count_words(document.text[s.start : s.end]) <= length for s in found)
