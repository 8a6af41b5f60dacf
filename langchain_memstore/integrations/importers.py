"""Moving in and out; see `langchain_memstore.transfer.importers`, whose public path this is."""

from langchain_memstore.transfer.importers import (
    CommunityLists,
    Histories,
    ImportReport,
    JsonDocuments,
    JsonDump,
    JsonLines,
    Problem,
    Source,
    aexport_conversations,
    aimport_conversations,
    export_conversations,
    import_conversations,
)

__all__ = [
    "CommunityLists",
    "Histories",
    "ImportReport",
    "JsonDocuments",
    "JsonDump",
    "JsonLines",
    "Problem",
    "Source",
    "aexport_conversations",
    "aimport_conversations",
    "export_conversations",
    "import_conversations",
]
