"""The protocols of the simulated site: what is scanned, how often, at which dose.

Dose targets are CTDIvol (mGy) at the reference size, set a little under the published 75th percentiles of the
table of diagnostic reference levels (row named behind each); lengths, frequencies and element lists are
``assumption:`` unless a source is named. A real site's list has this shape: a few protocols make most of the
work and a long tail is used once a month.
"""

from __future__ import annotations

from dataclasses import replace

from scanward.simulation.elements import LOCALIZER, SEQUENCED, SPIRAL, STATIONARY, ElementSpec, ProtocolSpec


def _scout(name: str = "Topogram", length: float = 400.0, start: float = 20.0) -> ElementSpec:
    return ElementSpec(name, LOCALIZER, length=length, start=start, width=0, kernel="scout", aec=False)


def _spiral(name: str, dose: float, length: float, start: float = 0.0, **more: object) -> ElementSpec:
    return replace(ElementSpec(name, SPIRAL, dose=dose, length=length, start=start), **more)  # type: ignore[arg-type]


def _head(name: str, dose: float, **more: object) -> ElementSpec:
    spec = _spiral(name, dose, 165, -5, width=1, rotation=1.0, pitch=0.55, slice_mm=3.0, kernel="brain")
    return replace(spec, filter_kind="head", head_phantom=True, **more)  # type: ignore[arg-type]


def _bolus(start: float, dose: float = 1.1) -> tuple[ElementSpec, ElementSpec]:
    # REF: pre-monitoring 40 mA, 0.5 s, 10 mm, 1.2 mGy per rotation, then monitoring until arrival
    pre = ElementSpec(
        "PreMonitoring",
        STATIONARY,
        dose,
        length=10,
        start=start,
        width=0,
        slice_mm=5.0,
        aec=False,
        rotations=1,
    )
    return pre, replace(pre, name="Monitoring", rotations=0, contrast=True)


_SCOUT_HEAD = _scout("Topogram Head", 250, 30)
_SCOUT_LATERAL = _scout("Topogram Lateral", 250, 30)
_SCOUT_CHEST = _scout("Topogram Chest", 420, 30)
_SCOUT_BODY = _scout("Topogram Body", 650, 30)
_SCOUT_ABDOMEN = _scout("Topogram Abdomen", 500, -170)
_ABDOMEN = {"rotation": 0.5, "pitch": 0.9, "slice_mm": 3.0}
_LUNG = {"kernel": "lung", "slice_mm": 1.5, "pitch": 1.2}
_CTA = {"kernel": "vessel", "slice_mm": 1.0, "contrast": True, "kvp": 100.0, "pitch": 1.2}

PROTOCOLS: tuple[ProtocolSpec, ...] = (
    # DRL: UK stroke 47, US 56
    ProtocolSpec(
        "Head Routine",
        "CT HEAD WITHOUT CONTRAST",
        "HEAD",
        "head",
        16.0,
        (_SCOUT_HEAD, _head("Head", 47)),
        emergency=0.45,
    ),
    ProtocolSpec(
        "Head Sequence",
        "CT HEAD WITHOUT CONTRAST",
        "HEAD",
        "head",
        5.0,
        (
            _SCOUT_HEAD,
            _head("Head Base", 48, kind=SEQUENCED, length=60, start=-90),
            _head("Head Vertex", 44, kind=SEQUENCED, length=100, start=-5),
        ),
        emergency=0.3,
    ),
    ProtocolSpec(
        "Head Trauma",
        "CT HEAD AND CERVICAL SPINE TRAUMA",
        "HEAD",
        "head",
        4.5,
        (
            _SCOUT_HEAD,
            _SCOUT_LATERAL,
            _head("Head", 45),
            _spiral("C Spine", 15, 190, -140, width=1, kernel="bone", pitch=0.8, slice_mm=2.0),
        ),
        emergency=0.95,
    ),  # DRL: UK C-spine 16
    ProtocolSpec(
        "Head With Contrast",
        "CT HEAD WITH AND WITHOUT CONTRAST",
        "HEAD",
        "head",
        2.2,
        (_SCOUT_HEAD, _head("Head Native", 47), _head("Head Contrast", 47, contrast=True)),
    ),
    ProtocolSpec(
        "Head Neck CTA",
        "CTA HEAD AND NECK",
        "HEADNECK",
        "neck",
        2.6,
        (_SCOUT_CHEST, *_bolus(-260), _spiral("CTA Carotid", 10, 360, 40, **_CTA)),
        emergency=0.7,
    ),
    # REF: 80 kV, 200 mA fixed; about 0.2 Gy assumed
    ProtocolSpec(
        "Stroke",
        "CT STROKE WITH PERFUSION",
        "HEAD",
        "head",
        1.5,
        (
            _SCOUT_HEAD,
            _head("Head Native", 47),
            ElementSpec(
                "Perfusion",
                STATIONARY,
                180,
                kvp=80,
                length=40,
                start=-60,
                width=2,
                rotation=1.0,
                slice_mm=5.0,
                kernel="brain",
                filter_kind="head",
                contrast=True,
                aec=False,
                rotations=30,
                head_phantom=True,
            ),
            _spiral("CTA Head", 11, 300, 20, **_CTA),
        ),
        emergency=1.0,
    ),
    # DRL: UK 12, Europe 11
    ProtocolSpec(
        "Sinus",
        "CT PARANASAL SINUSES",
        "HEAD",
        "head",
        2.6,
        (
            _SCOUT_LATERAL,
            _head(
                "Sinus",
                10,
                kvp=100,
                length=110,
                start=-60,
                rotation=0.5,
                pitch=0.9,
                kernel="bone",
                slice_mm=1.0,
            ),
        ),
    ),
    ProtocolSpec(
        "Temporal Bone",
        "CT TEMPORAL BONE",
        "HEAD",
        "head",
        0.5,
        (_SCOUT_LATERAL, _head("Inner Ear", 38, length=55, start=-70, kernel="bone", slice_mm=0.6)),
    ),
    ProtocolSpec(
        "Orbits",
        "CT ORBITS",
        "HEAD",
        "head",
        0.25,
        (_SCOUT_LATERAL, _head("Orbits", 22, length=70, start=-60, kernel="bone", slice_mm=1.0)),
    ),
    ProtocolSpec(
        "Dental",
        "CT MANDIBLE",
        "HEAD",
        "head",
        0.12,
        (_SCOUT_LATERAL, _head("Mandible", 9, length=80, start=-110, kernel="bone", slice_mm=0.6)),
    ),
    # DRL 15.5
    ProtocolSpec(
        "Neck",
        "CT NECK WITH CONTRAST",
        "NECK",
        "neck",
        2.6,
        (_SCOUT_CHEST, _spiral("Neck", 12, 260, -40, contrast=True, slice_mm=2.0, pitch=0.9)),
    ),
    ProtocolSpec(
        "C Spine",
        "CT CERVICAL SPINE WITHOUT CONTRAST",
        "CSPINE",
        "neck",
        2.4,
        (_SCOUT_CHEST, _spiral("C Spine", 16, 200, -60, width=1, kernel="bone", pitch=0.8, slice_mm=2.0)),
        emergency=0.7,
    ),
    # 8.5
    ProtocolSpec(
        "Chest Routine",
        "CT CHEST WITH CONTRAST",
        "CHEST",
        "chest",
        8.5,
        (_SCOUT_CHEST, _spiral("Thorax", 7.5, 330, -20, contrast=True, slice_mm=1.5, pitch=1.2)),
    ),
    ProtocolSpec(
        "Chest Native",
        "CT CHEST WITHOUT CONTRAST",
        "CHEST",
        "chest",
        5.5,
        (_SCOUT_CHEST, _spiral("Thorax", 6.5, 330, -20, slice_mm=1.5, pitch=1.2)),
    ),
    # REF 1.7-2.1
    ProtocolSpec(
        "Lung Screening",
        "CT LUNG CANCER SCREENING",
        "CHEST",
        "chest",
        2.2,
        (_SCOUT_CHEST, _spiral("Low Dose Lung", 1.8, 330, -20, **_LUNG)),
        emergency=0.0,
    ),
    # DRL: UK 8
    ProtocolSpec(
        "HRCT",
        "CT CHEST HIGH RESOLUTION",
        "CHEST",
        "chest",
        2.0,
        (
            _SCOUT_CHEST,
            _spiral("Inspiration", 6.5, 320, -20, **_LUNG),
            _spiral("Expiration", 1.6, 300, -25, **_LUNG),
            _spiral("Prone", 3.0, 300, -25, prone=True, **_LUNG),
        ),
        emergency=0.02,
    ),
    # 9.1
    ProtocolSpec(
        "CTPA",
        "CTA PULMONARY ARTERIES",
        "CHEST",
        "chest",
        5.5,
        (_SCOUT_CHEST, *_bolus(-120), _spiral("Pulmonary CTA", 7, 280, -40, **_CTA)),
        emergency=0.75,
    ),
    ProtocolSpec(
        "Chest Abdomen Pelvis",
        "CT CHEST ABDOMEN PELVIS WITH CONTRAST",
        "CHEST_TO_PELVIS",
        "abdomen",
        8.0,
        (_SCOUT_BODY, _spiral("Chest Abdomen Pelvis", 9.5, 640, -20, contrast=True, **_ABDOMEN)),
    ),
    ProtocolSpec(
        "Chest And Liver",
        "CT CHEST ABDOMEN PELVIS WITH CONTRAST",
        "CHEST_TO_PELVIS",
        "abdomen",
        1.8,
        (
            _SCOUT_BODY,
            _spiral("Thorax Arterial", 7.5, 330, -20, contrast=True, slice_mm=1.5, pitch=1.2),
            _spiral("Abdomen Venous", 10, 440, -230, contrast=True, **_ABDOMEN),
        ),
    ),
    ProtocolSpec(
        "Trauma Whole Body",
        "CT POLYTRAUMA",
        "WHOLEBODY",
        "abdomen",
        2.2,
        (
            _scout("Topogram Whole Body", 1000, 60),
            _head("Head", 45, start=40),
            _spiral("C Spine", 15, 190, -120, width=1, kernel="bone", pitch=0.8, slice_mm=2.0),
            _spiral("Trunk", 11, 680, -220, contrast=True, **_ABDOMEN),
        ),
        emergency=1.0,
    ),
    ProtocolSpec(
        "Abdomen Pelvis",
        "CT ABDOMEN PELVIS WITH CONTRAST",
        "ABDOMENPELVIS",
        "abdomen",
        9.0,
        (_SCOUT_ABDOMEN, _spiral("Abdomen Pelvis", 10, 450, -190, contrast=True, **_ABDOMEN)),
        emergency=0.35,
    ),  # DRL: UK 10, US 15
    # DRL: Europe HCC 9
    ProtocolSpec(
        "Liver Multiphase",
        "CT LIVER MULTIPHASE",
        "LIVER",
        "abdomen",
        2.0,
        (
            _SCOUT_ABDOMEN,
            _spiral("Native", 8.5, 230, -190, **_ABDOMEN),
            *_bolus(-200),
            _spiral("Arterial", 9.5, 230, -190, contrast=True, **_ABDOMEN),
            _spiral("Portal Venous", 9.5, 440, -190, contrast=True, **_ABDOMEN),
            _spiral("Delayed", 8.5, 230, -190, contrast=True, **_ABDOMEN),
        ),
    ),
    ProtocolSpec(
        "Pancreas",
        "CT PANCREAS BIPHASIC",
        "ABDOMEN",
        "abdomen",
        0.8,
        (
            _SCOUT_ABDOMEN,
            *_bolus(-200),
            _spiral("Pancreatic", 10, 250, -190, contrast=True, **_ABDOMEN),
            _spiral("Venous", 10, 440, -190, contrast=True, **_ABDOMEN),
        ),
    ),
    # DRL: UK 6.3
    ProtocolSpec(
        "KUB Stone",
        "CT KIDNEYS URETERS BLADDER",
        "ABDOMENPELVIS",
        "abdomen",
        3.2,
        (_SCOUT_ABDOMEN, _spiral("Stone", 4.8, 430, -200, **_ABDOMEN)),
        emergency=0.6,
    ),
    ProtocolSpec(
        "Urogram",
        "CT UROGRAM",
        "ABDOMENPELVIS",
        "abdomen",
        1.2,
        (
            _SCOUT_ABDOMEN,
            _spiral("Native", 5, 430, -200, **_ABDOMEN),
            _spiral("Nephrographic", 9, 430, -200, contrast=True, **_ABDOMEN),
            _spiral("Excretory", 7, 430, -200, contrast=True, **_ABDOMEN),
        ),
        emergency=0.0,
    ),
    # REF
    ProtocolSpec(
        "Colonography",
        "CT COLONOGRAPHY",
        "ABDOMENPELVIS",
        "abdomen",
        0.7,
        (
            _SCOUT_ABDOMEN,
            _spiral("Supine", 5.5, 440, -190, contrast=True, pitch=1.4, slice_mm=1.0),
            _scout("Topogram Prone", 500, -170),
            _spiral("Prone", 3, 440, -190, prone=True, pitch=1.4, slice_mm=1.0),
        ),
        emergency=0.0,
    ),
    ProtocolSpec(
        "Coronary CTA",
        "CTA CORONARY",
        "HEART",
        "chest",
        2.0,
        (
            _SCOUT_CHEST,
            _spiral(
                "Calcium Score", 3, 140, -130, rotation=0.28, pitch=1.2, filter_kind="cardiac", slice_mm=3.0
            ),
            *_bolus(-140),
            _spiral(
                "Coronary",
                20,
                140,
                -130,
                rotation=0.28,
                pitch=0.2,
                kvp=100.0,
                contrast=True,
                kernel="vessel",
                filter_kind="cardiac",
                slice_mm=0.6,
            ),
        ),
        emergency=0.02,
    ),  # DRL: Europe CACS 4, coronary CTA 25
    ProtocolSpec(
        "Calcium Score",
        "CT CALCIUM SCORE",
        "HEART",
        "chest",
        0.8,
        (
            _SCOUT_CHEST,
            ElementSpec(
                "Calcium Score",
                SEQUENCED,
                2.6,
                length=140,
                start=-130,
                rotation=0.28,
                filter_kind="cardiac",
                slice_mm=3.0,
            ),
        ),
        emergency=0.0,
    ),
    ProtocolSpec(
        "TAVI",
        "CTA AORTA PRE TAVI",
        "CHEST_TO_PELVIS",
        "abdomen",
        0.35,
        (
            _SCOUT_BODY,
            *_bolus(-140),
            _spiral(
                "Heart",
                18,
                150,
                -130,
                rotation=0.28,
                pitch=0.2,
                kvp=100.0,
                contrast=True,
                kernel="vessel",
                filter_kind="cardiac",
            ),
            _spiral("Aorta", 6, 600, -20, **_CTA),
        ),
        emergency=0.0,
    ),
    ProtocolSpec(
        "Aorta CTA",
        "CTA AORTA",
        "CHEST_TO_PELVIS",
        "abdomen",
        1.6,
        (
            _SCOUT_BODY,
            _spiral("Aorta Native", 6, 600, -20, **_ABDOMEN),
            *_bolus(-140),
            _spiral("Aorta CTA", 9, 620, -20, **_CTA),
        ),
        emergency=0.6,
    ),
    ProtocolSpec(
        "Runoff",
        "CTA LOWER EXTREMITIES",
        "LEG",
        "abdomen",
        0.7,
        (_scout("Topogram Legs", 1300, -200), *_bolus(-260), _spiral("Runoff", 6, 1150, -230, **_CTA)),
        feet_first=True,
    ),
    ProtocolSpec(
        "Extremity",
        "CT EXTREMITY WITHOUT CONTRAST",
        "EXTREMITY",
        "limb",
        1.6,
        (
            _scout("Topogram Limb", 300, 0),
            _spiral("Limb", 6, 180, -20, width=1, kernel="bone", pitch=0.8, slice_mm=1.0),
        ),
        feet_first=True,
        emergency=0.4,
    ),
    ProtocolSpec(
        "Lumbar Spine",
        "CT LUMBAR SPINE",
        "LSPINE",
        "abdomen",
        1.7,
        (
            _SCOUT_ABDOMEN,
            _spiral("L Spine", 18, 230, -230, width=1, kernel="bone", pitch=0.6, slice_mm=2.0, rotation=1.0),
        ),
    ),  # DRL: 24.3
    ProtocolSpec(
        "Thoracic Spine",
        "CT THORACIC SPINE",
        "TSPINE",
        "chest",
        0.4,
        (
            _SCOUT_CHEST,
            _spiral("T Spine", 14, 330, -20, width=1, kernel="bone", pitch=0.6, slice_mm=2.0, rotation=1.0),
        ),
    ),
    ProtocolSpec(
        "Pelvis Bone",
        "CT PELVIS BONE",
        "PELVIS",
        "abdomen",
        0.9,
        (_SCOUT_ABDOMEN, _spiral("Pelvis", 10, 260, -380, kernel="bone", pitch=0.8, slice_mm=2.0)),
        emergency=0.5,
    ),
    ProtocolSpec(
        "Adrenal Washout",
        "CT ADRENAL",
        "ABDOMEN",
        "abdomen",
        0.10,
        (
            _SCOUT_ABDOMEN,
            _spiral("Native", 8, 150, -200, **_ABDOMEN),
            _spiral("Venous", 9, 230, -190, contrast=True, **_ABDOMEN),
            _spiral("Washout", 8, 150, -200, contrast=True, **_ABDOMEN),
        ),
        emergency=0.0,
    ),
    ProtocolSpec(
        "Shoulder Arthrography",
        "CT SHOULDER ARTHROGRAPHY",
        "SHOULDER",
        "chest",
        0.08,
        (_SCOUT_CHEST, _spiral("Shoulder", 14, 130, -30, width=1, kernel="bone", pitch=0.8)),
        emergency=0.0,
    ),
    ProtocolSpec(
        "Venography Head",
        "CT VENOGRAPHY HEAD",
        "HEAD",
        "head",
        0.10,
        (
            _SCOUT_HEAD,
            _head("Native", 45),
            _head(
                "Venogram", 12, kvp=100, rotation=0.5, pitch=0.9, contrast=True, kernel="vessel", slice_mm=1.0
            ),
        ),
        emergency=0.5,
    ),
    # --- used for adults and children alike
    ProtocolSpec(
        "Head All Ages",
        "CT HEAD WITHOUT CONTRAST",
        "HEAD",
        "head",
        2.2,
        (_SCOUT_HEAD, _head("Head", 44)),
        ages=(0.0, 200.0),
        emergency=0.5,
    ),
    ProtocolSpec(
        "Abdomen All Ages",
        "CT ABDOMEN PELVIS WITH CONTRAST",
        "ABDOMENPELVIS",
        "abdomen",
        1.6,
        (_SCOUT_ABDOMEN, _spiral("Abdomen Pelvis", 9, 450, -190, contrast=True, **_ABDOMEN)),
        ages=(0.0, 200.0),
        emergency=0.4,
    ),
    ProtocolSpec(
        "Chest All Ages",
        "CT CHEST WITHOUT CONTRAST",
        "CHEST",
        "chest",
        1.2,
        (_SCOUT_CHEST, _spiral("Thorax", 6, 330, -20, slice_mm=1.5, pitch=1.2)),
        ages=(0.0, 200.0),
    ),
    # --- children: head doses by age, DRL US 2022: 23, 27, 31, 55 and Europe 24, 28, 40, 50
    ProtocolSpec(
        "Child Head 0-1",
        "CT HEAD WITHOUT CONTRAST",
        "HEAD",
        "head",
        0.5,
        (_SCOUT_HEAD, _head("Head", 20, kvp=100, rotation=0.5)),
        ages=(0.0, 1.0),
        emergency=0.6,
    ),
    ProtocolSpec(
        "Child Head 1-6",
        "CT HEAD WITHOUT CONTRAST",
        "HEAD",
        "head",
        0.8,
        (_SCOUT_HEAD, _head("Head", 26, kvp=100, rotation=0.5)),
        ages=(1.0, 6.0),
        emergency=0.6,
    ),
    ProtocolSpec(
        "Child Head 6-16",
        "CT HEAD WITHOUT CONTRAST",
        "HEAD",
        "head",
        1.1,
        (_SCOUT_HEAD, _head("Head", 36)),
        ages=(6.0, 16.0),
        emergency=0.6,
    ),
    # dose at the adult reference size; the AEC takes a child's to DRL 1.6-2.9
    ProtocolSpec(
        "Child Chest 0-6",
        "CT CHEST WITH CONTRAST",
        "CHEST",
        "chest",
        0.5,
        (_SCOUT_CHEST, _spiral("Thorax", 8, 330, -20, kvp=80, rotation=0.28, pitch=1.4, contrast=True)),
        ages=(0.0, 6.0),
    ),
    ProtocolSpec(
        "Child Chest 6-16",
        "CT CHEST WITH CONTRAST",
        "CHEST",
        "chest",
        0.5,
        (_SCOUT_CHEST, _spiral("Thorax", 7, 330, -20, kvp=100, rotation=0.28, pitch=1.4, contrast=True)),
        ages=(6.0, 16.0),
    ),
    ProtocolSpec(
        "Child Abdomen 0-6",
        "CT ABDOMEN PELVIS WITH CONTRAST",
        "ABDOMENPELVIS",
        "abdomen",
        0.4,
        (
            _SCOUT_ABDOMEN,
            _spiral("Abdomen Pelvis", 9, 430, -190, kvp=80, rotation=0.35, pitch=1.2, contrast=True),
        ),
        ages=(0.0, 6.0),
    ),
    ProtocolSpec(
        "Child Abdomen 6-16",
        "CT ABDOMEN PELVIS WITH CONTRAST",
        "ABDOMENPELVIS",
        "abdomen",
        0.6,
        (
            _SCOUT_ABDOMEN,
            _spiral("Abdomen Pelvis", 9, 430, -190, kvp=100, rotation=0.5, pitch=1.2, contrast=True),
        ),
        ages=(6.0, 16.0),
        emergency=0.4,
    ),
    ProtocolSpec(
        "Child Sinus",
        "CT PARANASAL SINUSES",
        "HEAD",
        "head",
        0.12,
        (
            _SCOUT_LATERAL,
            _head(
                "Sinus",
                6,
                kvp=100,
                length=110,
                start=-60,
                rotation=0.5,
                pitch=0.9,
                kernel="bone",
                slice_mm=1.0,
            ),
        ),
        ages=(4.0, 16.0),
        emergency=0.0,
    ),
)
