"""Read PDF files: their pages, without headers and footers, under the headings of their outline."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from warehouse.errors import first_line
from warehouse.inputs.documents.document import DocumentBuilder, FileText, UnreadableFile
from warehouse.inputs.documents.limits import MAX_PAGES, refuse_large
from warehouse.inputs.documents.optional import import_optional, quiet
from warehouse.inputs.documents.page_furniture import strip_furniture
from warehouse.text.words import has_unspaced_script
from warehouse.wording import format_count

SUFFIXES = (".pdf",)

_FULL_LINE = 0.75
"""Of the usual width: a shorter line ends what it says, a longer one goes on in the next."""
_ENDS_SENTENCE = re.compile(r"[.!?…。！？।:：][\"'”’»」』)\]]*$")
_ITEM = re.compile(r"(?:[•▪◦‣–-]|\(?\d{1,3}[.)]|\(?[a-z][.)])\s")
_HYPHEN = re.compile(r"([^\W\d_]+)[-\u2010\u00ad]$")
_LIGATURES = {code: form for code, form in enumerate(("ff", "fi", "fl", "ffi", "ffl", "st", "st"), 0xFB00)}  # fmt: skip
_UNREADABLE = re.compile(r"[\ufffd\ue000-\uf8ff\x00-\x08\x0e-\x1f]")
_MOST_UNREADABLE = 0.2
_LONGEST_WORD = 100
_LONGEST_PARAGRAPH = 20_000
_SCAN = "run OCR over it first, such as ocrmypdf"


def read(path: Path, name: str) -> FileText:
    """The text of a file, page by page.

    Raises:
        UnreadableFile: it is too large, broken, encrypted, or has no text, as a scan has none.
        MissingExtraError: pypdf is not installed.
    """
    pypdf = import_optional("pypdf", name)
    refuse_large(path)
    found = FileText()
    with path.open("rb") as stream, quiet("pypdf"):
        try:
            reader = pypdf.PdfReader(stream)
            if reader.is_encrypted and not reader.decrypt(""):
                raise UnreadableFile("is encrypted; save it without its password")
            found.pages = len(reader.pages)
        except pypdf.errors.DependencyError as error:
            raise UnreadableFile(f"is encrypted, and {first_line(error)}") from None
        except UnreadableFile:
            raise
        except Exception as error:  # a broken file shows itself in many ways
            raise UnreadableFile(f"is broken ({first_line(error)})") from None
        if found.pages > MAX_PAGES:
            raise UnreadableFile(
                f"has {format_count(found.pages, 'page')}, more than the {MAX_PAGES:,} that are "
                "read; split it"
            )
        texts = [_page_text(reader.pages[n], found) for n in range(found.pages)]
        titles = _outline(reader, found, name)
    if not any(texts):
        raise UnreadableFile(_why_empty(found))
    whole = "".join(texts)
    if len(_UNREADABLE.findall(whole)) > _MOST_UNREADABLE * len(whole.replace(" ", "")):
        raise UnreadableFile(f"has fonts that do not say what their letters are; {_SCAN}")
    pages, furniture = strip_furniture([text.split("\n") for text in texts])
    if furniture:
        found.dropped["header and footer lines"] += furniture.total()
        shown = ", ".join(f"'{line}'" for line, _ in furniture.most_common(3))
        more = f" and {len(furniture) - 3:,} more" if len(furniture) > 3 else ""
        found.notes.append(f"{name}: repeated at the edges of its pages, left out: {shown}{more}")
    builder = DocumentBuilder()
    _add_pages(builder, pages, titles, whole)
    found.documents.append(builder.build())
    return found


def _page_text(page: Any, found: FileText) -> str:
    """The lines of a page; a page without text is counted by what is on it."""
    try:
        text = page.extract_text()
    except Exception:  # the other pages may be sound
        found.dropped["broken pages"] += 1
        return ""
    text = text.encode("utf-8", "replace").decode("utf-8").translate(_LIGATURES)
    if text.strip():
        return str(text)
    found.dropped["pages without text, images" if _has_image(page) else "blank pages"] += 1
    return ""


def _has_image(page: Any) -> bool:
    try:
        objects = page["/Resources"]["/XObject"].get_object()
        return any(objects[key].get_object().get("/Subtype") == "/Image" for key in objects)
    except Exception:  # no resources, or broken ones
        return False


def _why_empty(found: FileText) -> str:
    images = found.dropped["pages without text, images"]
    pages = format_count(found.pages, "page")
    if images:
        return f"has no text on its {pages}, of which {images:,} {'is an image' if images == 1 else 'are images'}: a scan; {_SCAN}"
    if found.dropped["broken pages"]:
        return f"is broken: no text could be read on its {pages}"
    return f"has no text on its {pages}"


def _outline(reader: Any, found: FileText, name: str) -> dict[int, list[tuple[int, str]]]:
    """Page -> its bookmarks, as (level, title), in order; those that lead to no page are counted.

    A bookmark without a page stands over the first one within it that has one.
    """
    titles: defaultdict[int, list[tuple[int, str]]] = defaultdict(list)
    waiting: list[tuple[int, str]] = []

    def walk(items: Sequence[Any], level: int) -> None:
        for item in items:
            if isinstance(item, list):
                walk(item, level + 1)
                continue
            drop([each for each in waiting if each[0] >= level])
            page = reader.get_destination_page_number(item)
            title = " ".join(str(item.title or "").split())
            if title and (page is None or page < 0):
                waiting.append((level, title))
            elif title:
                titles[page] += [*waiting, (level, title)]
                waiting.clear()

    def drop(lost: Sequence[tuple[int, str]]) -> None:
        for each in lost:
            waiting.remove(each)
            found.dropped["bookmarks that lead to no page"] += 1

    try:
        walk(reader.outline, 1)
    except Exception as error:  # bookmarks are an aid: without them passages have pages alone
        reason = first_line(error)
        found.notes.append(f"{name}: its bookmarks are broken, so it has no headings ({reason})")
        return {}
    drop(list(waiting))
    return titles


def _add_pages(
    builder: DocumentBuilder,
    pages: Sequence[Sequence[str]],
    titles: dict[int, list[tuple[int, str]]],
    whole: str,
) -> None:
    """Append headings and paragraphs; a paragraph may go on over the end of a page."""
    lengths = sorted(len(line.strip()) for lines in pages for line in lines if line.strip())
    width = lengths[int(0.9 * (len(lengths) - 1))] if lengths else 0
    hyphenated = set(re.findall(r"[^\W\d_]+-[^\W\d_]+", whole.lower()))
    text = ""
    last = ""
    starts: list[int] = []

    def flush() -> None:
        nonlocal text, last, starts
        builder.add("text", text, pages=starts)
        text, last, starts = "", "", []

    for number, lines in enumerate(pages):
        waiting = list(titles.get(number, ()))
        starts.append(len(text))
        for line, title in _with_titles(lines, waiting):
            if title is not None:
                flush()
                builder.add("heading", title[1], title[0])
            elif not line.strip():
                if _ENDS_SENTENCE.search(last) or len(last) < _FULL_LINE * width:
                    flush()
            else:
                line = line.strip()
                is_short = len(last) < _FULL_LINE * width
                is_ended = (is_short and _ENDS_SENTENCE.search(last)) or _ITEM.match(line)
                if (last and is_ended) or len(text) > _LONGEST_PARAGRAPH:
                    flush()
                text = _join(text, line, is_short, hyphenated)
                last = line
    flush()


def _with_titles(
    lines: Sequence[str], titles: list[tuple[int, str]]
) -> Iterator[tuple[str, tuple[int, str] | None]]:
    """The lines of a page, its bookmarks among them: in the place of their line, else on top."""
    forms = [_form(line) for line in lines]
    places: defaultdict[int, list[tuple[int, str]]] = defaultdict(list)
    replaced: set[int] = set()
    at = 0
    for level, title in titles:
        form = _form(title)
        for first in range(at, len(forms)):
            for last in range(first, min(first + 3, len(forms))):
                joined = "".join(forms[first : last + 1])
                if joined == form or (
                    joined.lstrip("0123456789.") == form.lstrip("0123456789.") and form
                ):
                    break
            else:
                continue
            shown = " ".join(" ".join(lines[first : last + 1]).split())
            places[first].append((level, shown))
            replaced.update(range(first, last + 1))
            at = last + 1
            break
        else:
            places[at].append((level, title))
    for n in range(len(lines) + 1):
        for place in places[n]:
            yield "", place
        if n < len(lines) and n not in replaced:
            yield lines[n], None


def _form(line: str) -> str:
    return "".join(line.casefold().split())


def _join(text: str, line: str, is_short: bool, hyphenated: set[str]) -> str:
    """The text with a further line: words that were parted at its end are put together."""
    if not text:
        return line
    parted = _HYPHEN.search(text[-_LONGEST_WORD:])
    if parted and line[:1].islower():
        rest = re.match(r"[^\W\d_]+", line)
        if rest and f"{parted[1]}-{rest[0]}".lower() in hyphenated:
            return text + line
        return text[:-1] + line
    if is_short:
        return f"{text}\n{line}"
    if has_unspaced_script(text[-1]) and has_unspaced_script(line[0]):
        return text + line
    if text[-1] in "。，、！？；：」』）" and not line[0].isascii():
        return text + line
    return f"{text} {line}"
