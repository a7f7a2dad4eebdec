"""Does the generator insert and remove lesions? Independent classifiers and, on phantoms, the truth answer.

`confirm` compares generators with controls by one measure; classifiers learn from genuine pictures of other patients.
"""

from scanward.tampering.evaluation.confirm import Seen, confirm
from scanward.tampering.evaluation.controls import controls
from scanward.tampering.evaluation.results import Confirmation, Settings
from scanward.tampering.evaluation.sets import Data, Pictures
from scanward.tampering.evaluation.tampers import Tamper, of_generators

__all__ = [
    "Confirmation",
    "Data",
    "Pictures",
    "Seen",
    "Settings",
    "Tamper",
    "confirm",
    "controls",
    "of_generators",
]
