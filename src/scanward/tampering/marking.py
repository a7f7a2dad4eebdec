"""The marks that every picture of this wing carries: words burned into the pixels, and metadata that say the same.

`write_marked` is the only function of `scanward.tampering` that writes a PNG or TIFF picture,
`scanward.tampering.dicom_outputs.write_dicom` the only one that writes DICOM (a test reads the source for others).
The visible mark can be left out, the metadata cannot: there is no option for it.

Metadata: PNG text chunks of the PNG specification's own keywords (3rd edition, 11.3.3: Description, Software,
Source, Warning), TIFF ImageDescription and Software, and in both an XMP packet whose ``Iptc4xmpExt:DigitalSourceType``
is IPTC's term for a genuine picture with parts made by a trained model.
"""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar, cast
from xml.sax.saxutils import escape, quoteattr

import numpy as np
from numpy.typing import NDArray

from scanward import __version__
from scanward.errors import DecodeError, InputError, SettingsError

MARK = "MODIFIED - SCANWARD RESEARCH - NOT FOR DIAGNOSIS"
WARNING = "Synthetic data: modified by software for research into tampering. Not for diagnosis."
SOFTWARE = f"Scanward {__version__}"
SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"

EDGE = 0.06  # of the area's height, between its end and the mark: to crop the mark away costs tissue
BLOCK = 0.22  # of the area's height that one of the two blocks of words may take: the middle half stays free
LETTER = 0.045  # of the area's height that letters have where there is room

_ROWS = 7  # px of a letter at scale 1; 5 columns and one of space
_PITCH = 6
# 5 x 7 letters, one byte a column, lowest bit on top.
_LETTERS = """
A:7e1111117e B:7f49494936 C:3e41414122 D:7f4141221c E:7f49494941 F:7f09090901 G:3e4149497a
H:7f0808087f I:00417f4100 J:2040413f01 K:7f08142241 L:7f40404040 M:7f020c027f N:7f0408107f
O:3e4141413e P:7f09090906 Q:3e4151215e R:7f09192946 S:4649494931 T:01017f0101 U:3f4040403f
V:1f2040201f W:3f4038403f X:6314081463 Y:0708700807 Z:6151494543 0:3e5149453e 1:00427f4000
2:4261514946 3:2141454b31 4:1814127f10 5:2745454539 6:3c4a494930 7:0171090503 8:3649494936
9:064949291e -:0808080808 .:0060600000 /:2010080402
"""
_FONT = {" ": bytes(5)} | {one[0]: bytes.fromhex(one[2:]) for one in _LETTERS.split()}

Grey = TypeVar("Grey", bound=NDArray[np.uint8] | NDArray[np.uint16])
Mask = NDArray[np.bool_]


def stamp(
    picture: Grey, text: str = MARK, *, within: Mask | None = None, greys: tuple[int, int] | None = None
) -> Grey:
    """Burn ``text`` into a picture, near its upper and near its lower end; the middle half stays free.

    Parameters
    ----------
    picture : uint8 or uint16 array (r, c) or (r, c, 3)
        Left as it is; the result is a copy.
    text : str
        Capital letters, digits, space and ``-./``; parts joined by " - " go on lines of their own, or are left
        out from the last but one on, where there is no room for all of it.
    within : bool array (r, c), optional
        The breast: the mark is laid over its upper and lower part, so that cropping it costs tissue.
    greys : (dark, bright), optional
        Of outline and letters; the picture's own darkest and brightest where there are none given.

    Returns
    -------
    array like ``picture``
        Letters in the brightest grey with a dark outline, readable on tissue and on background.
    """
    if picture.ndim not in (2, 3) or picture.dtype not in (np.dtype(np.uint8), np.dtype(np.uint16)):
        raise ValueError(f"a picture is (r, c) or (r, c, 3) of uint8 or uint16, not {picture.shape}")
    if picture.shape[0] < 9 or picture.shape[1] < 7:
        raise SettingsError(
            "the picture is too small to be marked", f"{picture.shape[:2]} px", "give 16 x 16 px at least"
        )
    letters, outline = mark_masks(picture.shape[:2], text, within)
    dark, bright = greys or _greys(picture)
    marked = picture.copy()
    marked[outline] = dark
    marked[letters] = bright
    return cast("Grey", marked)


def mark_masks(shape: tuple[int, ...], text: str = MARK, within: Mask | None = None) -> tuple[Mask, Mask]:
    """Where `stamp` puts letters and where their outline, both bool (r, c) and disjoint."""
    rows, columns = shape[0], shape[1]
    area = (0, 0, rows, columns)
    if within is not None and within.any():
        down, across = np.flatnonzero(within.any(1)), np.flatnonzero(within.any(0))
        box = (int(down[0]), int(across[0]), int(down[-1]) + 1, int(across[-1]) + 1)
        if box[2] - box[0] >= 16 and box[3] - box[1] >= 16:  # else there is no breast to speak of
            area = box
    top, left, bottom, right = area
    block = _block(text, bottom - top, columns)
    height, width = block.shape
    letters = np.zeros((rows, columns), dtype=np.bool_)
    edge = round(EDGE * (bottom - top))
    for first in (top + edge, bottom - edge - height):
        first = min(max(first, 0), rows - height)
        at = left + (right - left - width) // 2
        if within is not None and within.any():
            at = _on_tissue(within[first : first + height], width)
        at = min(max(at, 0), columns - width)
        letters[first : first + height, at : at + width] |= block
    outline = np.zeros_like(letters)
    reach = max(1, _scale(text, bottom - top, columns)[1])
    from scipy import ndimage

    ndimage.binary_dilation(letters, np.ones((3, 3), bool), iterations=reach, output=outline)
    return letters, outline & ~letters


def _on_tissue(strip: Mask, width: int) -> int:
    """The first column from which a block of ``width`` covers the most of the breast in its rows."""
    summed = np.concatenate(([0], np.cumsum(strip.sum(0))))
    return int(np.argmax(summed[width:] - summed[:-width])) if width < len(summed) else 0


def _layouts(text: str) -> list[list[list[str]]]:
    """Lines to choose from: all of the text first, then less and less of it."""
    parts = [part.strip() for part in text.upper().split(" - ")]
    whole = [[" - ".join(parts)]]
    whole += [[" - ".join(parts[:cut]), " - ".join(parts[cut:])] for cut in range(1, len(parts))]
    word = parts[0].split(" ")[0]
    shorter = (parts[0], word, word[:3], word[:1])
    return [[*whole, parts], [[parts[0], parts[-1]]], *([[one]] for one in shorter)]


def _scale(text: str, height: int, width: int) -> tuple[list[str], int]:
    """The lines that fit and the size of one pixel of their letters."""
    most = max(1, int(LETTER * height / _ROWS))
    best: tuple[list[str], int] = ([], 0)
    for choice in _layouts(text):
        for lines in choice:
            wide = max(len(line) for line in lines) * _PITCH + 1
            tall = len(lines) * (_ROWS + 2)
            scale = min(width // wide, int(BLOCK * height) // tall, most)
            if scale > best[1]:
                best = (lines, scale)
        if best[1]:
            return best
    return [text.upper()[:1]], 1


def _block(text: str, height: int, width: int) -> Mask:
    lines, scale = _scale(text, height, width)
    wide = max(len(line) for line in lines) * _PITCH + 1
    block = np.zeros((len(lines) * (_ROWS + 2), wide), dtype=np.bool_)
    for number, line in enumerate(lines):
        for place, letter in enumerate(line):
            columns = np.frombuffer(_FONT.get(letter, _FONT["-"]), dtype=np.uint8)
            bits = (columns[None, :] >> np.arange(_ROWS)[:, None]) & 1
            down, across = number * (_ROWS + 2) + 1, place * _PITCH + 1
            block[down : down + _ROWS, across : across + 5] = bits
    return np.kron(block, np.ones((scale, scale), dtype=np.bool_))


def _greys(picture: NDArray[np.uint8] | NDArray[np.uint16]) -> tuple[int, int]:
    """Dark and bright: the picture's own ends, so that no viewer's window changes; of a flat one those of its type."""
    low, high = int(picture.min()), int(picture.max())
    limit = int(np.iinfo(picture.dtype).max)
    return (low, high) if high - low >= limit // 50 else (0, limit)


# --- files


def write_marked(
    path: Path,
    picture: NDArray[np.uint8] | NDArray[np.uint16],
    what: str,
    *,
    source_sha256: str = "",
    visible: bool = True,
    text: str = MARK,
    within: Mask | None = None,
    facts: Mapping[str, str] | None = None,
) -> bytes:
    """Mark a picture and write it as PNG or TIFF, by the path's ending; the file appears whole or not at all.

    Parameters
    ----------
    path : Path
        ``.png``, ``.tif`` or ``.tiff``.
    picture : uint8 or uint16 array (r, c), or uint8 (r, c, 3)
        Without a mark: it is stamped here when ``visible``.
    what : str
        One sentence of what the picture is; it stands in the metadata.
    source_sha256 : str
        Of the file it was made from, when there is one.
    visible : bool
        Whether the words are burned in as well. The metadata are written whatever this is.
    text : str
        The words, see `stamp`.
    within : bool array (r, c), optional
        The breast, see `stamp`.
    facts : mapping, optional
        More that the metadata are to say, as ``{"Direction": "insert"}``.

    Returns
    -------
    bytes
        What was written, to be hashed.

    Raises
    ------
    SettingsError
        Another ending, or too small to be marked.
    """
    shown = stamp(picture, text, within=within) if visible else picture
    said = declaration(what, source_sha256=source_sha256, visible=visible, facts=facts)
    ending = path.suffix.lower()
    if ending == ".png":
        written = _png(shown, said)
    elif ending in (".tif", ".tiff"):
        written = _tiff(shown, said)
    else:
        raise SettingsError(f"no picture format '{ending}'", str(path), "use .png or .tif")
    write_whole(path, written)
    return written


def declaration(
    what: str, *, source_sha256: str = "", visible: bool = True, facts: Mapping[str, str] | None = None
) -> dict[str, str]:
    """What the metadata of a picture say, in the order they are written."""
    said = {
        "Synthetic": "YES",
        "Visible-Mark": "YES" if visible else "NO",
        "Warning": WARNING,
        "Software": SOFTWARE,
        "Description": what,  # after what is ours alone: it may quote names that others gave
    }
    if source_sha256:
        said["Source"] = f"sha256:{source_sha256}"
    return {**said, **{key: text for key, text in (facts or {}).items() if key not in said}}


def write_whole(path: Path, content: bytes) -> None:
    """Write a file whole or not at all, and keep it over a loss of power."""
    draft = path.with_name(path.name + ".part")
    with draft.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def _png(picture: NDArray[np.generic], said: Mapping[str, str]) -> bytes:
    from PIL import Image as Pil
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    for key, text in said.items():
        info.add_text(key, text)  # iTXt where it is not Latin-1
    info.add_itxt("XML:com.adobe.xmp", _xmp(said))
    buffer = io.BytesIO()
    Pil.fromarray(np.ascontiguousarray(picture)).save(buffer, "PNG", compress_level=4, pnginfo=info)
    return buffer.getvalue()


def _tiff(picture: NDArray[np.generic], said: Mapping[str, str]) -> bytes:
    from PIL import Image as Pil
    from PIL.TiffImagePlugin import ImageFileDirectory_v2

    tags = ImageFileDirectory_v2()
    tags[270] = "; ".join(f"{key}: {text}" for key, text in said.items())  # ImageDescription
    tags[305] = SOFTWARE
    tags.tagtype[700] = 1  # XMP, as bytes
    tags[700] = _xmp(said).encode()
    buffer = io.BytesIO()
    Pil.fromarray(np.ascontiguousarray(picture)).save(
        buffer, "TIFF", tiffinfo=tags, compression="tiff_adobe_deflate"
    )
    return buffer.getvalue()


def _xmp(said: Mapping[str, str]) -> str:
    text = "; ".join(f"{key}: {value}" for key, value in said.items())
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/" '
        'xmlns:xmp="http://ns.adobe.com/xap/1.0/" '
        'xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" '
        f"xmp:CreatorTool={quoteattr(SOFTWARE)} Iptc4xmpExt:DigitalSourceType={quoteattr(SOURCE_TYPE)}>"
        f'<dc:description><rdf:Alt><rdf:li xml:lang="x-default">{escape(text)}</rdf:li></rdf:Alt></dc:description>'
        '</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="r"?>'
    )


def marks_of(path: Path) -> dict[str, str]:
    """What a PNG or TIFF says of itself, by the keys of `declaration`; empty when it carries no mark of ours.

    Raises
    ------
    InputError
        No such file.
    DecodeError
        Not a readable PNG or TIFF.
    """
    from PIL import Image as Pil

    try:
        with Pil.open(path, formats=("PNG", "TIFF")) as opened:
            if opened.format == "PNG":
                opened.load()  # text may follow the pixels
                said = {key: str(value) for key, value in getattr(opened, "text", {}).items()}
            else:
                tags = getattr(opened, "tag_v2", {})
                parts = (part.partition(": ") for part in str(tags.get(270, "")).split("; "))
                said = {}
                for key, _, text in parts:
                    said.setdefault(
                        key, text
                    )  # what stands first is ours; the description may quote anything
    except FileNotFoundError as error:
        raise InputError("no such picture", str(path), "check the path") from error
    except (OSError, SyntaxError, ValueError, EOFError, Pil.DecompressionBombError) as error:
        raise DecodeError(f"not a readable PNG or TIFF: {error}", str(path), "give another file") from error
    return said if said.get("Synthetic") == "YES" else {}
