"""Read data files as raw records: JSON, JSON Lines, CSV, Parquet and Excel, however encoded.

What was guessed, such as the encoding, is appended to the caller's `notes`.
"""

from __future__ import annotations

import codecs
import gzip
import io
import json
import re
import zlib
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any, BinaryIO

from warehouse.errors import DataError, MissingExtraError, first_line

KINDS = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet", ".xlsx")
"""Kinds of data files, each also with .gz after it."""

TEXT_CELLS = (".csv", ".tsv", ".xlsx")
"""Kinds whose cells are texts; a list in one is written in JSON."""

_SEPARATORS = ",;\t|"
_HEAD = 65536
_BOMS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))  # fmt: skip
_UTF8_CHARACTER = re.compile(rb"[\xc3-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}")
_MOST_ACCENTED = 0.3  # of a Western text's bytes; in GBK or Shift-JIS nearly all are above 127
_ROW_KEYS = {"prompt", "messages", "conversations", "instruction", "question"}


def kind_of(path: Path) -> str:
    """The kind of a file by its name, without the .gz of a compressed one."""
    name = path.name.lower().removesuffix(".gz")
    return Path(name).suffix


def read_records(
    path: Path,
    notes: list[str] | None,
    name: str | None = None,
    header: int = 1,
    faults: list[str] | None = None,
) -> Iterator[tuple[str, Any]]:
    """(where it stands, value) of each record; blank lines are skipped.

    Args:
        path: The file, of one of `KINDS`, perhaps with .gz.
        notes: What a reader should know of how it was read is appended here. None: nobody reads
            it, so that nothing is guessed and only UTF-8 and UTF-16 are taken.
        name: What the file is called in messages; its own name by default.
        header: Lines before the first row of a table, in the numbers of its rows.
        faults: What is wrong with a record that cannot be read is appended here, and the others are
            read all the same. None: it is an error.

    Raises:
        DataError: the file cannot be read; the line is named where there is one.
    """
    name = name or path.name
    kind = kind_of(path)
    try:
        if kind in (".jsonl", ".ndjson", ".json"):
            yield from _json(path, kind, name, notes, faults)
        elif kind in (".csv", ".tsv"):
            for number, row in enumerate(_csv(path, kind, name, notes), start=1 + header):
                yield f"{name} row {number}", row
        elif kind == ".parquet":
            for number, row in enumerate(_parquet(path, name), start=1):
                yield f"{name} row {number}", row
        elif kind == ".xlsx":
            for number, row in _excel(path, name, notes):
                yield f"{name} row {number}", row
        else:
            allowed = ", ".join(KINDS)
            raise DataError(f"{name}: unknown kind of file; allowed: {allowed}, also with .gz")
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{name} cannot be read: {first_line(error)}") from None


def decode_text(raw: bytes, name: str, notes: list[str] | None) -> str:
    """Decode a whole text file; see `_encoding` for what is tried.

    Raises:
        DataError: it is in no encoding that can be told.
    """
    text = raw.decode(_encoding(io.BytesIO(raw), name, notes))
    return text.removeprefix("\ufeff")


def refuse_half_characters(value: Any, where: str) -> None:
    """Refuse a value with an unpaired surrogate anywhere in it: it can be stored nowhere.

    Raises:
        DataError: it has one, or is nested too deeply to tell.
    """
    try:
        json.dumps(value, ensure_ascii=False, default=str).encode()
    except UnicodeEncodeError:
        raise DataError(
            f"{where} has half a character (an unpaired surrogate); correct the text"
        ) from None
    except RecursionError:
        raise DataError(f"{where} is nested too deeply; a row is a flat object") from None


def parse_json(text: str) -> Any:
    """Parse JSON; NaN and Infinity, which Python writes for missing numbers, are None."""
    return json.loads(text, parse_constant=lambda _: None)


def _open(path: Path) -> BinaryIO:
    return gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb")  # type: ignore[return-value]


def _encoding(stream: BinaryIO, name: str, notes: list[str] | None) -> str:
    """The encoding of a text: by its mark, UTF-16 by its zero bytes, UTF-8, Windows-1252.

    Windows-1252 takes nearly any bytes, so it is believed only of a text that is mostly ASCII and
    has no character in UTF-8.
    """
    head = stream.read(_HEAD)
    marked = [encoding for mark, encoding in _BOMS if head.startswith(mark)]
    zeros = head[0::2].count(0), head[1::2].count(0)
    wide = len(head) > 1 and max(zeros) > len(head) / 5 and min(zeros) < max(zeros) / 4
    guess = ("utf-16-be" if zeros[0] > zeros[1] else "utf-16-le") if wide else "utf-8"
    encoding = (marked or [guess])[0]
    decoder = codecs.getincrementaldecoder(encoding)()
    stream.seek(0)
    try:
        while chunk := stream.read(1 << 20):
            decoder.decode(chunk)
        decoder.decode(b"", final=True)
        return encoding
    except UnicodeDecodeError:
        stream.seek(0)
        whole = stream.read()
    if encoding != "utf-8":
        raise DataError(f"{name} begins like {encoding.upper()} and is not; save it as UTF-8")
    if notes is None or not _is_western(whole):
        lines = enumerate(whole.split(b"\n"), start=1)
        number = next(number for number, line in lines if not _is_utf8(line))
        raise DataError(f"{name} line {number} is not UTF-8; save the file as UTF-8")
    notes.append(
        f"{name} is not UTF-8; it was read as Windows-1252. If accented letters look wrong in it, "
        "save it as UTF-8"
    )
    return "cp1252"


def _is_utf8(raw: bytes) -> bool:
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _is_western(raw: bytes) -> bool:
    """Whether bytes that are not UTF-8 may be a text in Windows-1252."""
    accented = sum(raw.count(byte) for byte in range(128, 256))
    try:
        raw.decode("cp1252")
    except UnicodeDecodeError:
        return False
    return accented <= max(1, _MOST_ACCENTED * len(raw)) and not _UTF8_CHARACTER.search(raw)


def _json(
    path: Path, kind: str, name: str, notes: list[str] | None, faults: list[str] | None
) -> Iterator[tuple[str, Any]]:
    with _open(path) as stream:
        encoding = _encoding(stream, name, notes)
    if kind == ".json" or _begins_an_array(path, encoding):
        with _open(path) as stream:
            text = stream.read().decode(encoding)
        try:
            document = parse_json(text)
        except RecursionError:
            raise DataError(f"{name} is not JSON (it is nested too deeply)") from None
        except ValueError as error:
            if kind == ".json" and "Extra data" not in str(error):
                raise DataError(f"{name} is not JSON ({error})") from None
        else:
            for number, item in enumerate(_unnested(_items(document, name)), start=1):
                where = f"{name} item {number}"
                try:
                    if "\\ud" in text or "\\uD" in text:
                        refuse_half_characters(item, where)
                except DataError as error:
                    _note_or_raise(error, faults)
                else:
                    yield where, item
            return
    with _open(path) as stream:
        for number, line in enumerate(_lines(stream, encoding), start=1):
            if line.strip():
                where = f"{name} line {number}"
                try:
                    value = _parsed_line(line, where)
                except DataError as error:
                    _note_or_raise(error, faults)
                else:
                    yield where, value


def _note_or_raise(error: DataError, faults: list[str] | None) -> None:
    """Note the fault of one record where the others are to be read all the same."""
    if faults is None:
        raise error
    faults.append(str(error))


def _lines(stream: BinaryIO, encoding: str) -> Iterator[str]:
    if encoding.startswith("utf-8"):  # its lines can be cut before they are decoded
        for line in stream:
            yield line.decode(encoding)
    else:
        yield from stream.read().decode(encoding).split("\n")


def _parsed_line(line: str, where: str) -> Any:
    try:
        value = parse_json(line)
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else error
        raise DataError(
            f"{where} is not JSON ({reason}); one object per line is expected"
        ) from None
    if "\\ud" in line or "\\uD" in line:
        refuse_half_characters(value, where)
    return value


def _begins_an_array(path: Path, encoding: str) -> bool:
    with _open(path) as stream:
        head = stream.read(_HEAD)
    start = codecs.getincrementaldecoder(encoding)("ignore").decode(head)
    return start.lstrip("\ufeff \t\r\n").startswith("[")


def _items(document: Any, name: str) -> list[Any]:
    """The rows in a JSON document: an array, a row by itself, or an object with one list of rows."""
    if isinstance(document, list):
        return document
    if not isinstance(document, dict):
        raise DataError(f"{name} is neither a JSON array nor an object; a row is an object")
    if _ROW_KEYS & document.keys():
        return [document]
    lists = [
        key
        for key, value in document.items()
        if isinstance(value, list) and value and all(isinstance(item, dict) for item in value)
    ]
    if len(lists) == 1:
        rows: list[Any] = document[lists[0]]
        return rows
    if not lists:
        return [document]
    raise DataError(
        f"{name} has several lists of objects ({', '.join(lists)}); keep the rows in a file of their own"
    )


def _unnested(items: list[Any]) -> Iterator[Any]:
    """The rows; an article of SQuAD's own files gives one for each of its questions."""
    for item in items:
        paragraphs = item.get("paragraphs") if isinstance(item, dict) else None
        if not isinstance(paragraphs, list):
            yield item
            continue
        for paragraph in (each for each in paragraphs if isinstance(each, dict)):
            for question in paragraph.get("qas") or []:
                yield {"context": paragraph.get("context"), **question}


def _csv(path: Path, kind: str, name: str, notes: list[str] | None) -> Iterator[dict[str, Any]]:
    import polars as pl

    with _open(path) as stream:
        raw = stream.read()
    text = decode_text(raw, name, notes)
    if "\n" not in text:
        text = text.replace("\r", "\n")
    told = re.match(r"sep=(.)\r?\n", text)  # how Excel says it
    if told:
        text = text[told.end() :]
    separator = told[1] if told else _separator(text, kind)
    try:
        table = pl.read_csv(
            io.BytesIO(text.encode()), infer_schema=False, separator=separator,
        )  # fmt: skip
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise DataError(f"{name} cannot be read as CSV: {_reason(error)}") from None
    padded = {column for column in table.columns if column != column.strip(" \t\"'")}
    names = {column: column.strip(" \t\"'") for column in table.columns}
    names |= {column: column for column in padded if names[column] in table.columns}
    for row in table.iter_rows(named=True):
        if padded:  # then the cells below have the same blanks
            row = {
                names[key]: cell.strip() if key in padded and cell is not None else cell
                for key, cell in row.items()
            }
        yield row


def _separator(text: str, kind: str) -> str:
    """The separator that cuts the header into the most columns; the usual one where none does."""
    header = re.sub(r'"[^"]*"', '""', text[:_HEAD].partition("\n")[0])
    names = {name.strip().lower() for name in text[:_HEAD].partition("\n")[0].split(",")}
    if kind == ".csv" and names & {"prompt", "messages"}:
        return ","
    usual = "\t" if kind == ".tsv" else ","
    return max(usual + _SEPARATORS, key=header.count)  # the first of the best


def _parquet(path: Path, name: str) -> Iterator[dict[str, Any]]:
    import polars as pl

    try:
        if path.suffix.lower() == ".gz":
            with _open(path) as stream:
                table = pl.read_parquet(io.BytesIO(stream.read()))
        else:
            table = pl.read_parquet(path)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise DataError(f"{name} cannot be read as PARQUET: {_reason(error)}") from None
    yield from table.iter_rows(named=True)


def _excel(path: Path, name: str, notes: list[str] | None) -> Iterator[tuple[int, dict[str, Any]]]:
    """The rows of the first sheet, by the names in its first row that is not blank."""
    try:
        import openpyxl
    except ImportError:
        raise MissingExtraError(
            f"{name} is an Excel file, and openpyxl is not installed; pip install "
            "'stillhouse[excel]', or save the sheet as CSV"
        ) from None

    with _open(path) as stream:
        packed = io.BytesIO(stream.read())
    try:
        book = openpyxl.load_workbook(packed, read_only=True, data_only=True)
        sheet = book.worksheets[0]
        rows = [list(row) for row in sheet.iter_rows(values_only=True)]
    except Exception as error:  # a broken archive shows itself in many ways
        raise DataError(f"{name} cannot be read as an Excel file: {_reason(error)}") from None
    if notes is not None and len(book.worksheets) > 1:
        notes.append(f"{name}: only its first sheet, '{sheet.title}', is read")
    columns: list[str] | None = None
    for number, row in enumerate(rows, start=1):
        cells = [_cell(value) for value in row]
        if columns is not None:
            yield number, {key: cell for key, cell in zip(columns, cells, strict=False) if key}
        elif any(cells):
            columns = [cell.strip() if cell else "" for cell in cells]


def _cell(value: Any) -> str | None:
    """A cell as its text: 1999.0, as Excel keeps every number, is 1999."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return value.isoformat() if isinstance(value, date) else str(value)


def _reason(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
