"""Read documents of many formats, and cut them into passages."""

from warehouse.inputs.documents.passage import Passage
from warehouse.inputs.documents.read import (
    LENGTH,
    DocumentSource,
    DocumentSummary,
    ReadDocuments,
    read_documents,
)
from warehouse.inputs.documents.windows import check_window, read_passages

__all__ = [
    "LENGTH",
    "DocumentSource",
    "DocumentSummary",
    "Passage",
    "ReadDocuments",
    "check_window",
    "read_documents",
    "read_passages",
]
