/** Sizes, times and limits in words. */

const UNITS = ["bytes", "KiB", "MiB", "GiB", "TiB"];

/** @param {number} bytes */
export function size(bytes) {
  if (bytes === 1) return "1 byte";
  const power = Math.min(Math.floor(Math.log2(Math.max(bytes, 1)) / 10), UNITS.length - 1);
  const number = bytes / 1024 ** power;
  const digits = power === 0 || number >= 100 ? 0 : 1;
  return `${number.toFixed(digits).replace(/\.0$/, "")} ${UNITS[power]}`;
}

/** @param {number} seconds */
export function duration(seconds) {
  const steps = [
    [86400, "day"],
    [3600, "hour"],
    [60, "minute"],
    [1, "second"],
  ];
  const [step, unit] = steps.find(([step]) => seconds >= step) ?? [1, "second"];
  const count = Math.max(1, Math.round(seconds / step));
  return `${count} ${unit}${count === 1 ? "" : "s"}`;
}

/** @param {string} iso */
export function ago(iso) {
  const seconds = (Date.now() - Date.parse(iso)) / 1000;
  return seconds < 10 ? "just now" : `${duration(seconds)} ago`;
}

/** Rounded down, so that 100 % is shown only when it is true. */
export function percent(part, whole) {
  return whole === 0 ? 100 : Math.floor((part / whole) * 100);
}

export function hashLabel(name) {
  return { md5: "MD5", sha256: "SHA-256" }[name] ?? name?.toUpperCase() ?? "";
}
