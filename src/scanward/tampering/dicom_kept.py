"""Attributes of a mammogram that a modified copy keeps: the picture, its grey scale, its geometry, its exposure.

Keywords of PS3.6. What is not here stays behind: names, dates, places, serial numbers, descriptions in free words,
other UIDs, digital signatures (they are of the original), icons, overlays, private attributes.
"""

from __future__ import annotations

_PICTURE = """
SOPClassUID Modality PresentationIntentType ConversionType Manufacturer ManufacturerModelName SoftwareVersions
Rows Columns BitsAllocated BitsStored HighBit PixelRepresentation SamplesPerPixel PhotometricInterpretation
PixelPaddingValue PixelPaddingRangeLimit PixelIntensityRelationship PixelIntensityRelationshipSign
RescaleIntercept RescaleSlope RescaleType ModalityLUTSequence VOILUTSequence WindowCenter WindowWidth VOILUTFunction
PresentationLUTShape LossyImageCompression LossyImageCompressionRatio LossyImageCompressionMethod QualityControlImage
"""
_GEOMETRY = """
BodyPartExamined AnatomicRegionSequence ViewPosition ViewCodeSequence Laterality ImageLaterality PatientOrientation
PartialView PartialViewCodeSequence BreastImplantPresent OrganExposed PositionerType PositionerPrimaryAngle
PositionerSecondaryAngle PositionerPrimaryAngleDirection ImagerPixelSpacing PixelSpacing PixelSpacingCalibrationType
NominalScannedPixelSpacing PixelAspectRatio SpatialResolution EstimatedRadiographicMagnificationFactor
DistanceSourceToDetector DistanceSourceToPatient DistanceSourceToEntrance CollimatorShape CollimatorLeftVerticalEdge
CollimatorRightVerticalEdge CollimatorUpperHorizontalEdge CollimatorLowerHorizontalEdge FieldOfViewShape
FieldOfViewDimensions FieldOfViewOrigin FieldOfViewRotation FieldOfViewHorizontalFlip
"""
_EXPOSURE = """
KVP ExposureTime XRayTubeCurrent Exposure ExposureInuAs ExposureTimeInuS XRayTubeCurrentInuA ExposureControlMode
ExposureStatus AnodeTargetMaterial FilterType FilterMaterial FilterThicknessMinimum FilterThicknessMaximum FocalSpots
Grid HalfValueLayer EntranceDose EntranceDoseInmGy OrganDose BodyPartThickness CompressionForce DetectorType
DetectorConfiguration DetectorConditionsNominalFlag DetectorTemperature DetectorBinning DetectorActiveShape
DetectorActiveDimensions DetectorActiveOrigin DetectorElementPhysicalSize DetectorElementSpacing
"""

KEPT = tuple((_PICTURE + _GEOMETRY + _EXPOSURE).split())

# Codes are kept with their meaning; nothing else of a sequence's item is, unless named here.
CODE = ("CodeValue", "LongCodeValue", "CodingSchemeDesignator", "CodingSchemeVersion", "CodeMeaning")
KEPT_SEQUENCES = {
    "ViewCodeSequence": (*CODE, "ViewModifierCodeSequence"),
    "ModalityLUTSequence": ("LUTDescriptor", "ModalityLUTType", "LUTData"),
    "VOILUTSequence": ("LUTDescriptor", "LUTData"),
}
