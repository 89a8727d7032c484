"""Other tools' formats: what an exporter or importer is handed, answers, and may use."""

from shopfloor.datasets.convert.formats import export, import_dataset
from shopfloor.datasets.convert.options import Exported, ExportOptions, Imported, ImportOptions
from shopfloor.datasets.convert.rows import observed
from shopfloor.datasets.convert.selection import Selection, given_actions
from shopfloor.datasets.disk.staging import staged_folder

__all__ = [
    "ExportOptions",
    "Exported",
    "ImportOptions",
    "Imported",
    "Selection",
    "export",
    "given_actions",
    "import_dataset",
    "observed",
    "staged_folder",
]
