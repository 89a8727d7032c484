"""The verbs of the command line, a file each: its flags, and `run(arguments) -> int`.

A verb is added by one file and one line here. The file's `run` takes one frozen dataclass, whose
fields become flags by tyro and whose first line is the verb's line in `shopfloor --help`.
"""

VERBS = {
    "cells": "shopfloor.launch.verbs.cells",
    "collect": "shopfloor.launch.verbs.collect",
    "train": "shopfloor.launch.verbs.train",
    "evaluate": "shopfloor.launch.verbs.evaluate",
    "compare": "shopfloor.launch.verbs.compare",
    "flywheel": "shopfloor.launch.verbs.flywheel",
    "data info": "shopfloor.launch.verbs.data.info",
    "data verify": "shopfloor.launch.verbs.data.verify",
    "data repair": "shopfloor.launch.verbs.data.repair",
    "data compact": "shopfloor.launch.verbs.data.compact",
    "data merge": "shopfloor.launch.verbs.data.merge",
    "data split": "shopfloor.launch.verbs.data.split",
    "data filter": "shopfloor.launch.verbs.data.filter",
    "data delete": "shopfloor.launch.verbs.data.delete",
    "data purge": "shopfloor.launch.verbs.data.purge",
    "data relabel": "shopfloor.launch.verbs.data.relabel",
    "data export": "shopfloor.launch.verbs.data.export",
    "data import": "shopfloor.launch.verbs.data.import_",
    "data replay": "shopfloor.launch.verbs.data.replay",
    "data render": "shopfloor.launch.verbs.data.render",
    "data quality": "shopfloor.launch.verbs.data.quality",
    "view": "shopfloor.launch.verbs.view",
}
