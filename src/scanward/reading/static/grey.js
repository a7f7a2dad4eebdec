// From stored values to greys, and from a picture to the pixels of a screen. Pure functions: no page, no state.
//
// Every pixel of the canvas is computed here and put there with putImageData. Nothing is left to the browser's own
// scaling, so that what is on the canvas can be stated, and tested, value by value.

/** Greys of all 65,536 stored values under a window, as opaque RGBA words.
 *
 * DICOM PS3.3 C.11.2.1.2.1 (LINEAR) with output 0 to 255, rounded half up; an inverted picture shows 255 minus that.
 *
 * @param {number} centre window centre, in stored values
 * @param {number} width window width, at least 1
 * @param {boolean} invert
 * @returns {Uint32Array} 65,536 words, 0xAABBGGRR (little endian RGBA)
 */
export function greyTable(centre, width, invert) {
  const table = new Uint32Array(65536);
  const low = centre - 0.5 - (width - 1) / 2;
  const high = centre - 0.5 + (width - 1) / 2;
  for (let value = 0; value < 65536; value += 1) {
    let grey;
    if (value <= low) grey = 0;
    else if (value > high) grey = 255;
    // ((v - (c - 0.5)) / (w - 1) + 0.5) * 255, half up, with one division alone: for windows in halves of a value all
    // before it is exact, and a quotient that should be a whole number is one
    else grey = Math.floor((255 * (2 * (value - centre) + width) + (width - 1)) / (2 * (width - 1)));
    if (invert) grey = 255 - grey;
    table[value] = (0xff000000 | (grey << 16) | (grey << 8) | grey) >>> 0;
  }
  return table;
}

/** The part of a screen that a picture covers, in whole screen pixels.
 *
 * @param {{columns: number, rows: number}} picture
 * @param {[number, number]} origin the picture's coordinates (x, y) at the screen's upper left corner
 * @param {number} zoom screen pixels per picture pixel
 * @param {number} width of the screen, screen pixels
 * @param {number} height
 * @returns {{left: number, top: number, width: number, height: number}}
 */
export function covered(picture, origin, zoom, width, height) {
  // a thousandth of a pixel is rounding, not picture
  const left = Math.max(0, Math.floor(-origin[0] * zoom + 0.001));
  const top = Math.max(0, Math.floor(-origin[1] * zoom + 0.001));
  const right = Math.min(width, Math.ceil((picture.columns - origin[0]) * zoom - 0.001));
  const bottom = Math.min(height, Math.ceil((picture.rows - origin[1]) * zoom - 0.001));
  return { left, top, width: Math.max(0, right - left), height: Math.max(0, bottom - top) };
}

/** Stored values of the covered part of the screen: each screen pixel's nearest picture pixel (1:1 and above), or the
 * mean of the picture's area under it, rounded half up (below 1:1). No other value is invented.
 *
 * @param {{values: Uint16Array, columns: number, rows: number}} picture
 * @param {[number, number]} origin as in `covered`
 * @param {number} zoom
 * @param {{left: number, top: number, width: number, height: number}} part from `covered`
 * @returns {Uint16Array} part.width x part.height, row by row
 */
export function sampled(picture, origin, zoom, part) {
  return zoom >= 1 ? nearest(picture, origin, zoom, part) : averaged(picture, origin, zoom, part);
}

function nearest(picture, origin, zoom, part) {
  const { values, columns, rows } = picture;
  const out = new Uint16Array(part.width * part.height);
  const across = new Int32Array(part.width);
  for (let i = 0; i < part.width; i += 1) {
    across[i] = Math.min(columns - 1, Math.max(0, Math.floor(origin[0] + (part.left + i + 0.5) / zoom)));
  }
  let before = -1;
  for (let j = 0; j < part.height; j += 1) {
    const y = Math.min(rows - 1, Math.max(0, Math.floor(origin[1] + (part.top + j + 0.5) / zoom)));
    const at = j * part.width;
    if (y === before) {
      out.copyWithin(at, at - part.width, at);
      continue;
    }
    const line = y * columns;
    for (let i = 0; i < part.width; i += 1) out[at + i] = values[line + across[i]];
    before = y;
  }
  return out;
}

function averaged(picture, origin, zoom, part) {
  const { values, columns, rows } = picture;
  const out = new Uint16Array(part.width * part.height);
  const edges = (start, index, bound) => Math.min(bound, Math.max(0, start + index / zoom));
  const across = new Float64Array(part.width + 1);
  for (let i = 0; i <= part.width; i += 1) across[i] = edges(origin[0], part.left + i, columns);
  const from = Math.floor(across[0]);
  const to = Math.ceil(across[part.width]);
  const sums = new Float64Array(to - from);
  for (let j = 0; j < part.height; j += 1) {
    const upper = edges(origin[1], part.top + j, rows);
    const lower = edges(origin[1], part.top + j + 1, rows);
    sums.fill(0);
    for (let y = Math.floor(upper); y < lower; y += 1) {
      const weight = Math.min(y + 1, lower) - Math.max(y, upper);
      const line = y * columns + from;
      if (weight === 1) for (let x = 0; x < sums.length; x += 1) sums[x] += values[line + x];
      else for (let x = 0; x < sums.length; x += 1) sums[x] += weight * values[line + x];
    }
    const at = j * part.width;
    for (let i = 0; i < part.width; i += 1) {
      const left = across[i];
      const right = across[i + 1];
      let sum = 0;
      for (let x = Math.floor(left); x < right; x += 1) {
        sum += (Math.min(x + 1, right) - Math.max(x, left)) * sums[x - from];
      }
      const area = (right - left) * (lower - upper);
      out[at + i] = area > 0 ? Math.floor(sum / area + 0.5) : 0;
    }
  }
  return out;
}

/** Paints stored values through a table into RGBA words. */
export function painted(values, table, words) {
  for (let i = 0; i < values.length; i += 1) words[i] = table[values[i]];
}
