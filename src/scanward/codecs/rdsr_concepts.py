"""Which coded concept of a dose report is which field, and in which unit the field is kept.

Sources: PS3.16 TID 10013 (CT irradiation event), 10014 (scanning length), 10015 (dose check details), 10042
(irradiation event summary), 10045 (radiation technique), CID 10013, 4030, 4052; PS3.3 C.8.15.3.2 for the
defined terms of AcquisitionType and PS3.16 annex L for those of BodyPartExamined.
"""

from __future__ import annotations

from scanward.commands import BODY_PHANTOM, HEAD_PHANTOM

REPORT = "113701"
CT_ACQUISITION = "113819"
CT_ACCUMULATED = "113811"
XRAY_SOURCE = "113831"
ALERT_DETAILS = "113900"
NOTIFICATION_DETAILS = "113908"
EVENT_UID = "113769"
STARTED = "111526"
ENDED = "111527"
IRRADIATION_STARTED = "113809"
SOURCE_ID = "113832"
PROTOCOL = "125203"
REGION = "123014"
ACQUISITION_TYPE = "113820"
MODULATION = "113842"
PHANTOM = "113835"
COMMENT = "121106"
DOSE_INFORMATION_SOURCE = "113854"
SCREEN_READ = "113868"  # Derived From Human-Readable Reports
MAKER, MODEL, SERIAL = "113878", "113879", "113880"
OBSERVER_MAKER, OBSERVER_MODEL, OBSERVER_SERIAL = "121014", "121015", "121016"
FILTERS = "113771"
FILTER_TYPE, FILTER_MATERIAL = "113772", "113757"
REASON = "113907"
SIZE_METHOD_LOCALIZER = "113984"
# TID 10042, 10043, 10045, 10046
EVENT_SUMMARY = "130501"
EVENT_TYPE = "113721"
IRRADIATION_DETAILS = "130505"
TECHNIQUE = "130511"
FILTRATION = "130512"
# TID 10003, for telling a projection report apart
PROJECTION_EVENT = "113706"

# Numbers of a CT acquisition outside its X-ray sources: concept -> (field, unit).
EVENT_NUMBERS: dict[str, tuple[str, str]] = {
    "113823": ("NumberOfXRaySources", "1"),
    "113824": ("ExposureTimeInms", "ms"),
    "113825": ("ScanLength", "mm"),
    "113826": ("SingleCollimationWidth", "mm"),
    "113827": ("TotalCollimationWidth", "mm"),
    "113828": ("SpiralPitchFactor", "1"),
    "113830": ("CTDIvol", "mGy"),
    "113838": ("DLP", "mGy.cm"),
    "113736": ("Exposure", "mA.s"),
    "113893": ("LengthOfReconstructableVolume", "mm"),
    "113895": ("TopZLocationOfReconstructableVolume", "mm"),
    "113896": ("BottomZLocationOfReconstructableVolume", "mm"),
    "113897": ("TopZLocationOfScanningLength", "mm"),
    "113898": ("BottomZLocationOfScanningLength", "mm"),
    "113899": ("ExposedRange", "mm"),
    "113930": ("SizeSpecificDoseEstimate", "mGy"),
    "113821": ("XRayFilterAluminumEquivalent", "mm"),
}
# Numbers of one X-ray source.
SOURCE_NUMBERS: dict[str, tuple[str, str]] = {
    "113733": ("KVP", "kV"),
    "113734": ("XRayTubeCurrentInmA", "mA"),
    "113833": ("MaximumXRayTubeCurrent", "mA"),
    "113834": ("RevolutionTime", "s"),
    "113821": ("XRayFilterAluminumEquivalent", "mm"),
}
# TID 10015: alert details, notification details.
ALERT_NUMBERS: dict[str, tuple[str, str]] = {
    "113903": ("DLPAlertValue", "mGy.cm"),
    "113904": ("CTDIvolAlertValue", "mGy"),
    "113905": ("AccumulatedDLPForwardEstimate", "mGy.cm"),
    "113906": ("AccumulatedCTDIvolForwardEstimate", "mGy"),
}
NOTIFICATION_NUMBERS: dict[str, tuple[str, str]] = {
    "113911": ("DLPNotificationValue", "mGy.cm"),
    "113912": ("CTDIvolNotificationValue", "mGy"),
    "113913": ("DLPForwardEstimate", "mGy.cm"),
    "113914": ("CTDIvolForwardEstimate", "mGy"),
}
# Water equivalent diameter: it speaks of the patient, not of the machine.
SIZE_NUMBERS = ("113980", "113981", "113982")
# May be negative: places on the table, a saving that cost. Everything else may not.
SIGNED_FIELDS = frozenset(
    [field for field, _ in EVENT_NUMBERS.values() if "Location" in field] + ["EstimatedDoseSaving"]
)

ACQUISITION_TYPES = {
    "113804": "SEQUENCED",
    "113805": "CONSTANT_ANGLE",
    "113806": "STATIONARY",
    "113807": "FREE",
    "SRT:P5-08001": "SPIRAL",
    "99SDM:P5-08001": "SPIRAL",
    "SNM3:P5-08001": "SPIRAL",
    "SCT:116152004": "SPIRAL",
    "SCT:702569007": "CONE_BEAM",  # no defined term of PS3.3 yet: CID 10013's meaning in the same style
}
PHANTOMS = {"113690": HEAD_PHANTOM, "113691": BODY_PHANTOM}

# (SCT code, SRT code) -> defined term of BodyPartExamined.
_REGIONS = {
    ("816094009", "T-D3000"): "CHEST",
    ("51185008", "T-D3000"): "CHEST",
    ("818981001", "T-D4000"): "ABDOMEN",
    ("818983003", "T-D4000"): "ABDOMEN",
    ("816092008", "T-D6000"): "PELVIS",
    ("12921003", "T-D6000"): "PELVIS",
    ("818982008", "R-FAB57"): "ABDOMENPELVIS",
    ("416550000", "R-FAB55"): "CHESTABDOMEN",
    ("416775004", "R-FAB56"): "CHESTABDPELVIS",
    ("69536005", "T-D1100"): "HEAD",
    ("774007", "T-D1000"): "HEADNECK",
    ("45048000", "T-D1600"): "NECK",
    ("417437006", "R-FAB52"): "NECKCHEST",
    ("416152001", "R-FAB53"): "NECKCHESTABDOMEN",
    ("416319003", "R-FAB54"): "NECKCHESTABDPELV",
    ("12738006", "T-A0100"): "BRAIN",
    ("89546000", "T-11100"): "SKULL",
    ("91397008", "T-11196"): "FACIALBONES",
    ("2095001", "T-22000"): "PARANASALSINUS",
    ("80891009", "T-32000"): "HEART",
    ("41801008", "T-43000"): "CORONARYARTERY",
    ("64033007", "T-71000"): "KIDNEY",
    ("10200004", "T-62000"): "LIVER",
    ("71854001", "T-59300"): "COLON",
    ("122494005", "T-11501"): "CSPINE",
    ("122495006", "T-11502"): "TSPINE",
    ("122496007", "T-11503"): "LSPINE",
    ("421060004", "T-D04FF"): "SPINE",
    ("38266002", "T-D0010"): "WHOLEBODY",
    ("66019005", "T-D0300"): "EXTREMITY",
    ("61685007", "T-D9000"): "LEG",
    ("53120007", "T-D8000"): "ARM",
    ("16982005", "T-D2220"): "SHOULDER",
    ("72696002", "T-D9200"): "KNEE",
    ("29836001", "T-D2500"): "HIP",
    ("85562004", "T-D8700"): "HAND",
    ("56459004", "T-D9700"): "FOOT",
}
REGIONS = {f"SCT:{sct}": term for (sct, _), term in _REGIONS.items()} | {
    f"{scheme}:{srt}": term for (_, srt), term in _REGIONS.items() for scheme in ("SRT", "SNM3")
}
