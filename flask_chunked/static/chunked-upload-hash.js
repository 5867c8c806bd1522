/**
 * Worker: the digest of a whole file, slice by slice, in constant memory.
 *
 * It is a classic worker, because the vendored builds of hash-wasm are classic scripts.
 * Input: `{file: Blob, algorithm: "md5" | "sha256"}`, once.
 * Output: `{hashed: bytes}` after each slice, then `{digest: hex}` or `{error, during}`;
 * `during` is "loading", "reading" (the file) or "hashing".
 */
"use strict";

const SLICE = 4 * 2 ** 20;

const ALGORITHMS = {
  md5: { script: "vendor/md5.umd.min.js", factory: "createMD5" },
  sha256: { script: "vendor/sha256.umd.min.js", factory: "createSHA256" },
};

self.onmessage = async ({ data: { file, algorithm } }) => {
  let during = "loading";
  try {
    const { script, factory } = ALGORITHMS[algorithm];
    importScripts(script);
    during = "hashing";
    const hasher = await self.hashwasm[factory]();
    hasher.init();
    for (let start = 0; start < file.size; start += SLICE) {
      during = "reading";
      const slice = await file.slice(start, start + SLICE).arrayBuffer();
      during = "hashing";
      hasher.update(new Uint8Array(slice));
      self.postMessage({ hashed: start + slice.byteLength });
    }
    self.postMessage({ digest: hasher.digest("hex") });
  } catch (error) {
    self.postMessage({ error: String(error), during });
  }
};
