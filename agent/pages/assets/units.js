// Values as people read them.
const scales = {
  bytes: [1024, ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB', 'EiB']],
  nanoseconds: [1000, ['ns', 'µs', 'ms', 's']],
};

/** @param {number} value @param {string} unit @returns {string} */
export function amount(value, unit) {
  const scale = scales[unit];
  if (!scale) return Math.round(value).toLocaleString('en');
  let size = Math.abs(value), step = 0;
  while (size >= scale[0] && step + 1 < scale[1].length) {
    size /= scale[0];
    step++;
  }
  const text = step === 0 || size >= 100 ? size.toFixed(0) :
      size >= 10                         ? size.toFixed(1) :
                                           size.toFixed(2);
  return `${value < 0 ? '−' : ''}${text} ${scale[1][step]}`;
}

/** @param {number} value @param {string} unit */
export function signedAmount(value, unit) { return (value > 0 ? '+' : '') + amount(value, unit); }

/** @param {number} part @param {number} whole */
export function share(part, whole) {
  if (!whole) return '';
  const percent = (100 * part) / whole, size = Math.abs(percent);
  return `${percent.toFixed(size >= 9.995 ? 1 : 2)} %`.replace('-', '−');
}

/** The last part of a path. @param {string|null} path */
export function baseName(path) { return path ? path.slice(path.lastIndexOf('/') + 1) : ''; }
