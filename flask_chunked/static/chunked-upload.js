/**
 * Resumable uploads from a browser, in the Content-Range dialect of flask_chunked.
 *
 *     import { ChunkedUpload } from "/uploads/static/chunked-upload.js";
 *
 *     const upload = new ChunkedUpload({ endpoint: "/uploads/", file });
 *     upload.addEventListener("progress", ({ detail }) => show(detail.offset));
 *     upload.addEventListener("state", ({ detail }) => show(detail.state));
 *     upload.addEventListener("error", ({ detail }) => show(detail.message));
 *     upload.start();
 *
 * No dependency and no build step. A worker in the same directory computes the checksum.
 * It needs WebAssembly: a content security policy must allow `worker-src 'self'` and
 * `script-src 'self' 'wasm-unsafe-eval'`.
 */

const MIB = 2 ** 20;
const KEY_PREFIX = "chunked-upload:";
const COMPLETE = 2; // the value of `status` in the server's JSON
const RATE_WINDOW = 5000; // milliseconds
const AFTER_PAUSE = 300; // milliseconds until the server notices a closed connection

/**
 * @typedef {"ready" | "uploading" | "hashing" | "verifying" | "paused" | "complete"
 *   | "failed" | "cancelled"} State
 * `hashing`: every byte is sent, but the checksum is not ready yet.
 *
 * @typedef {object} Options
 * @property {string} endpoint URL of the blueprint, with its trailing slash.
 * @property {File} file
 * @property {number} [chunkSize] Bytes of one request at most; default 8 MiB.
 * @property {number} [firstChunkSize] Bytes of the first request at most, default
 *   64 KiB. Its answer has the upload's URL, which every resumption needs.
 * @property {"md5" | "sha256" | null} [checksum] Default "md5", the server's default;
 *   null if the server does not demand one.
 * @property {Record<string, string>} [headers] Sent with every request.
 * @property {string | (() => string)} [csrfToken] Sent as X-CSRFToken.
 * @property {boolean} [withCredentials] Send cookies to another origin.
 * @property {number[]} [retryDelays] Milliseconds before each new attempt. The list
 *   starts over when bytes have arrived; at its end, the upload fails.
 * @property {number} [stallTimeout] Milliseconds without progress after which a request
 *   is aborted and repeated; 0: never.
 * @property {string | null} [uploadUrl] Continue this upload.
 * @property {Record<string, string>} [fields] Further fields of the server's schema.
 * @property {boolean} [multipart] Send chunks as forms, for servers without raw bodies;
 *   an interrupted chunk is then lost as a whole.
 * @property {string} [fieldName] Name of the file part of such a form; default "file".
 * @property {Storage | null} [storage] Remembers URLs; default localStorage.
 * @property {string | URL} [workerUrl] Default: chunked-upload-hash.js next to this file.
 * @property {() => XMLHttpRequest} [createRequest] Creates the object of each request.
 *
 * @typedef {object} Progress
 * @property {number} offset Bytes sent, including those not acknowledged yet.
 * @property {number} confirmed Bytes that the server has acknowledged.
 * @property {number} length Bytes of the file.
 * @property {number} hashed Bytes that the checksum includes.
 * @property {number} rate Bytes per second, over the last seconds.
 * @property {number | null} secondsLeft null while no bytes are sent.
 *
 * @typedef {object} Remembered
 * @property {string} url
 * @property {string} name
 * @property {number} size
 * @property {number} lastModified
 */

/** Why an upload stopped; show `message` to the user. */
export class UploadError extends Error {
  /**
   * @param {"network" | "server" | "refused" | "gone" | "checksum" | "file" | "hashing"
   *   | "protocol"} code
   * @param {string} message
   * @param {{status?: number, body?: any, retryable?: boolean, startOver?: boolean,
   *   retryAfter?: number, cause?: unknown}} [evidence] `startOver`: the upload cannot
   *   continue, `resume()` starts a new one; `retryAfter`: milliseconds.
   */
  constructor(code, message, evidence = {}) {
    super(message, { cause: evidence.cause });
    this.name = "UploadError";
    this.code = code;
    this.status = evidence.status ?? 0;
    this.body = evidence.body ?? null;
    this.retryable = evidence.retryable ?? false;
    this.startOver = evidence.startOver ?? false;
    this.retryAfter = evidence.retryAfter ?? 0;
  }
}

/**
 * The upload of one file.
 *
 * Events, all `CustomEvent`: `progress` ({@link Progress}), `state` (`{state,
 * previous}`), `retry` (`{error, attempt, delay}`, before a new attempt) and `error`
 * ({@link UploadError}; the state is then `failed`, or `cancelled` if the server could
 * not be reached).
 */
export class ChunkedUpload extends EventTarget {
  /** @type {Required<Options>} */
  #options;
  /** @type {State} */
  #state = "ready";
  /** @type {string | null} */
  #url;
  /** True if the URL was known before this object created an upload. */
  #inherited;
  #offset = 0;
  /** @type {any} */
  #answer = null;
  /** @type {string | null} */
  #digest = null;
  /** @type {UploadError | null} */
  #error = null;
  /** @type {AbortController | null} the attempts since the last start() */
  #run = null;
  /** @type {Promise<void> | null} the request that creates the upload */
  #creation = null;
  /** @type {{worker: Worker, digest: Promise<string>} | null} */
  #hashing = null;
  #hashed = 0;
  #meter = new Meter();

  /** @param {Options} options */
  constructor(options) {
    super();
    this.#options = Object.assign(defaults(), defined(options));
    const { checksum, chunkSize, firstChunkSize } = this.#options;
    if (![null, "md5", "sha256"].includes(checksum)) {
      throw new RangeError(`checksum must be "md5", "sha256" or null, not ${checksum}`);
    }
    if (!(chunkSize >= 1 && firstChunkSize >= 1)) {
      throw new RangeError("chunkSize and firstChunkSize must be at least 1 byte");
    }
    this.#url = this.#options.uploadUrl;
    this.#inherited = this.#url !== null;
  }

  get file() {
    return this.#options.file;
  }

  /** Bytes of the file. */
  get length() {
    return this.file.size;
  }

  get state() {
    return this.#state;
  }

  /** Bytes that the server has acknowledged. */
  get offset() {
    return this.#offset;
  }

  /** The upload's URL, once the server has returned it. */
  get url() {
    return this.#url;
  }

  /** The server's last JSON about the upload. */
  get answer() {
    return this.#answer;
  }

  /** The file's checksum in hex, once it is computed. */
  get digest() {
    return this.#digest;
  }

  /** Why the state is `failed`. */
  get error() {
    return this.#error;
  }

  /** Start, or continue after a pause, a failure or, with a remembered URL, a reload. */
  start() {
    if (!["ready", "paused", "failed"].includes(this.#state)) return;
    if (this.#error?.startOver) this.#abandon();
    this.#error = null;
    this.#run = new AbortController();
    this.#meter.reset();
    this.#setState("uploading");
    this.#startHashing();
    if (this.#state === "uploading") void this.#attempt(this.#run.signal);
  }

  /** The same as {@link start}. */
  resume() {
    this.start();
  }

  /** Stop sending; the server keeps the bytes that it has. */
  pause() {
    if (!["uploading", "hashing", "verifying"].includes(this.#state)) return;
    this.#run?.abort();
    this.#setState("paused");
    void this.#lookAfterPause(this.#run);
  }

  /**
   * Cancel the upload, and delete its bytes on the server.
   *
   * @returns {Promise<void>} settled when the server has answered or cannot be reached.
   */
  async cancel() {
    if (["complete", "cancelled"].includes(this.#state)) return;
    this.#run?.abort();
    this.#stopHashing();
    this.#setState("cancelled");
    await this.#creation?.catch(() => {});
    const url = this.#url;
    if (url === null) return;
    this.#forget();
    try {
      await this.#delete(url);
    } catch (error) {
      this.#emit("error", error);
    }
  }

  /**
   * The uploads that this browser has started and neither finished nor cancelled.
   *
   * @param {Storage | null} [storage]
   * @returns {Remembered[]}
   */
  static remembered(storage = localStorageOrNull()) {
    return storedKeys(storage)
      .map((key) => readEntry(storage, key))
      .filter((entry) => entry !== null);
  }

  /**
   * Forget an upload that was removed by other means.
   *
   * @param {string} url
   * @param {Storage | null} [storage]
   */
  static forget(url, storage = localStorageOrNull()) {
    for (const key of storedKeys(storage)) {
      if (readEntry(storage, key)?.url === url) storage?.removeItem(key);
    }
  }

  // -- the life of an upload --------------------------------------------------------

  /** @param {AbortSignal} signal */
  async #attempt(signal) {
    const { retryDelays } = this.#options;
    let failures = 0;
    for (;;) {
      const before = this.#offset;
      try {
        await this.#locate(signal);
        await this.#sendRest(signal);
        await this.#finish(signal);
        return;
      } catch (caught) {
        if (signal.aborted) return; // pause(), cancel() or #fail() has set the state
        const error = await this.#explain(caught);
        if (signal.aborted) return;
        if (this.#offset > before) failures = 0;
        if (!error.retryable || failures >= retryDelays.length) {
          this.#fail(error);
          return;
        }
        const delay = Math.max(error.retryAfter, jittered(retryDelays[failures]));
        failures += 1;
        if (this.#state !== "uploading") this.#setState("uploading");
        this.#meter.reset();
        this.#emit("retry", { error, attempt: failures, delay });
        await pause(delay, signal);
        if (signal.aborted) return;
      }
    }
  }

  /**
   * Ask for the offset of the upload, if there is one.
   *
   * @param {AbortSignal} signal
   */
  async #locate(signal) {
    await this.#creation; // pause() does not abort it
    if (this.#url === null) this.#recall();
    if (this.#url === null) return;
    try {
      await this.#ask(signal);
    } catch (error) {
      if (!(hasCode(error, "gone") && this.#inherited)) throw error;
      this.#abandon();
    }
  }

  /** @param {AbortSignal} signal */
  async #sendRest(signal) {
    while (!this.#isSent()) {
      const before = this.#offset;
      if (this.#url === null) {
        await this.#create(signal);
        continue;
      }
      await this.#append(signal, this.#url);
      if (this.#offset <= before && !this.#isSent()) {
        throw new UploadError("protocol", "The server took none of the bytes sent.", {
          retryable: true,
        });
      }
    }
  }

  /**
   * Ask for the offset after a pause: the server keeps the bytes that had arrived.
   *
   * @param {AbortController | null} run
   */
  async #lookAfterPause(run) {
    const isPaused = () => this.#run === run && this.#state === "paused";
    await this.#creation?.catch(() => {});
    await pause(AFTER_PAUSE);
    if (!isPaused() || this.#url === null) return;
    try {
      const answer = await this.#request("GET", this.#url, {});
      if (!isPaused()) return;
      this.#accept(answer);
      this.#reportProgress(this.#offset);
    } catch {
      // Only the display needs this answer; resume() asks again.
    }
  }

  #isSent() {
    if (this.#url === null) return false;
    return this.#offset >= this.length || this.#answer?.status === COMPLETE;
  }

  /** @param {AbortSignal} signal */
  async #create(signal) {
    const { endpoint, fields, multipart, firstChunkSize, chunkSize } = this.#options;
    const url = new URL(endpoint, document.baseURI);
    if (!multipart) {
      for (const [name, value] of Object.entries(fields)) {
        url.searchParams.append(name, value);
      }
    }
    const stop = Math.min(this.length, firstChunkSize, chunkSize);
    // Do not pass the signal: aborting would leave an upload whose URL is unknown.
    const creation = this.#put(url.href, 0, stop).then((answer) => {
      this.#accept(answer);
    });
    const settled = creation.finally(() => {
      this.#creation = null;
    });
    settled.catch(() => {});
    this.#creation = settled;
    await settled;
    signal.throwIfAborted();
  }

  /**
   * @param {AbortSignal} signal
   * @param {string} url
   */
  async #append(signal, url) {
    const { chunkSize } = this.#options;
    const start = this.#offset;
    const stop = Math.min(this.length, start - (start % chunkSize) + chunkSize);
    try {
      this.#accept(await this.#put(url, start, stop, signal));
    } catch (error) {
      if (!isFinalRefusal(error)) throw error;
      // It may be complete, if the answer to an earlier completion was lost.
      await this.#ask(signal);
      if (!this.#isSent()) throw error;
    }
  }

  /** @param {AbortSignal} signal */
  async #finish(signal) {
    const { checksum } = this.#options;
    const form = new URLSearchParams();
    if (checksum !== null) {
      form.set(checksum, this.#digest ?? (await this.#awaitDigest(signal)));
    }
    this.#reportProgress(this.length);
    this.#setState("verifying");
    let answer;
    try {
      const how = { body: form, signal, patient: true };
      answer = await this.#request("POST", this.#knownUrl, how);
    } catch (error) {
      throw isFinalRefusal(error) ? await this.#explainRefusal(error, signal) : error;
    }
    // The application may return any answer to a completion.
    if (answer !== null && typeof answer === "object") this.#answer = answer;
    this.#forget();
    this.#stopHashing();
    this.#setState("complete");
  }

  /**
   * The reason for a refused completion: missing bytes or wrong ones.
   *
   * @param {UploadError} error
   * @param {AbortSignal} signal
   */
  async #explainRefusal(error, signal) {
    await this.#ask(signal);
    if (this.#offset < this.length && this.#answer?.status !== COMPLETE) {
      error.retryable = true;
      return error;
    }
    if (!/^checksum does not/i.test(error.body?.detail ?? "")) return error;
    return new UploadError(
      "checksum",
      "What the server has is not this file: the checksums differ. " +
        "It has to be sent again from the start.",
      { status: error.status, body: error.body, startOver: true, cause: error },
    );
  }

  /** @param {AbortSignal} signal */
  async #ask(signal) {
    this.#accept(await this.#request("GET", this.#knownUrl, { signal }));
    this.#reportProgress(this.#offset);
  }

  get #knownUrl() {
    if (this.#url === null) throw new TypeError("the upload has no URL yet");
    return this.#url;
  }

  /** @param {any} answer */
  #accept(answer) {
    if (typeof answer?.url !== "string" || !Number.isSafeInteger(answer.offset)) {
      throw new UploadError("protocol", "The server's answer is not about an upload.", {
        body: answer,
      });
    }
    this.#answer = answer;
    this.#offset = answer.offset;
    if (this.#url !== null) return;
    this.#url = new URL(answer.url, document.baseURI).href;
    this.#remember();
  }

  /** @param {UploadError} error */
  #fail(error) {
    this.#run?.abort();
    this.#stopHashing();
    this.#error = error;
    if (error.startOver) this.#forget();
    this.#setState("failed");
    this.#emit("error", error);
  }

  /** Drop an upload that cannot continue. */
  #abandon() {
    const isOpen = this.#error?.code === "checksum" && this.#answer?.status !== COMPLETE;
    if (isOpen && this.#url) this.#delete(this.#url).catch(() => {});
    this.#forget();
    this.#url = null;
    this.#inherited = false;
    this.#offset = 0;
    this.#answer = null;
  }

  /**
   * The real error: a lost connection may mean that the file was changed or removed.
   *
   * @param {unknown} caught
   */
  async #explain(caught) {
    if (!(caught instanceof UploadError)) {
      return new UploadError("protocol", String(caught), { cause: caught });
    }
    if (caught.code !== "network") return caught;
    try {
      await this.file.slice(this.#offset, this.#offset + 1).arrayBuffer();
      return caught;
    } catch (cause) {
      return unreadable(cause);
    }
  }

  // -- the checksum -----------------------------------------------------------------

  #startHashing() {
    const { checksum, workerUrl } = this.#options;
    if (checksum === null || this.#digest !== null || this.#hashing !== null) return;
    if (typeof WebAssembly === "undefined" || typeof Worker === "undefined") {
      this.#fail(unhashable("it has no WebAssembly"));
      return;
    }
    const worker = new Worker(workerUrl);
    /** @type {Promise<string>} */
    const digest = new Promise((resolve, reject) => {
      worker.onerror = (event) => {
        event.preventDefault();
        reject(event.message ? unhashable(event.message) : unloaded());
      };
      worker.onmessage = ({ data }) => {
        if (data.during === "reading") reject(unreadable(data.error));
        if (data.during === "hashing") reject(unhashable(data.error));
        if (data.during === "loading") reject(unloaded());
        if (data.digest) resolve(data.digest);
        if (data.hashed) this.#hashed = data.hashed;
        if (data.hashed && this.#state !== "uploading") this.#reportProgress(this.#offset);
      };
    });
    this.#hashing = { worker, digest };
    this.#hashed = 0;
    worker.postMessage({ file: this.file, algorithm: checksum });
    digest.then(
      (hex) => {
        this.#digest = hex;
        this.#hashed = this.length;
        worker.terminate();
        this.#reportProgress(this.#meter.latest ?? this.#offset);
      },
      (error) => {
        if (this.#hashing?.worker !== worker) return;
        this.#stopHashing();
        if (!error.retryable) this.#fail(error);
      },
    );
  }

  /** @param {AbortSignal} signal */
  async #awaitDigest(signal) {
    this.#startHashing(); // again, if its script could not be loaded before
    if (this.#hashing === null) throw unloaded();
    this.#setState("hashing");
    return unlessAborted(this.#hashing.digest, signal);
  }

  #stopHashing() {
    this.#hashing?.worker.terminate();
    this.#hashing = null;
  }

  // -- requests ---------------------------------------------------------------------

  /**
   * Send a chunk.
   *
   * @param {string} url
   * @param {number} start
   * @param {number} stop first byte that is not sent
   * @param {AbortSignal} [signal]
   */
  #put(url, start, stop, signal) {
    const { file, length } = this;
    const { multipart, fieldName, fields } = this.#options;
    const name = wellFormed(file.name);
    const range = length === 0 ? "bytes */0" : `bytes ${start}-${stop - 1}/${length}`;
    /** @type {Record<string, string>} */
    const headers = { "Content-Range": range };
    /** @type {Blob | FormData} */
    let body = file.slice(start, stop, "application/octet-stream");
    if (multipart) {
      const form = new FormData();
      for (const [field, value] of Object.entries(fields)) form.append(field, value);
      form.append(fieldName, body, name);
      body = form;
    } else {
      headers["Content-Type"] = "application/octet-stream";
      headers["Content-Disposition"] = `attachment; filename="${encodeURIComponent(name)}"`;
    }
    /** @param {number} bytes */
    const onSent = (bytes) => this.#reportProgress(Math.min(start + bytes, stop));
    return this.#request("PUT", url, { body, headers, signal, onSent });
  }

  /** @param {string} url */
  async #delete(url) {
    for (let attempt = 0; ; attempt += 1) {
      try {
        await this.#request("DELETE", url, {});
        return;
      } catch (error) {
        if (hasCode(error, "gone")) return;
        if (!(error instanceof UploadError && error.retryable) || attempt >= 3) throw error;
        await pause(jittered(this.#options.retryDelays[attempt] ?? 1000));
      }
    }
  }

  /**
   * @param {string} method
   * @param {string} url
   * @param {{body?: XMLHttpRequestBodyInit, headers?: Record<string, string>,
   *   signal?: AbortSignal, onSent?: (bytes: number) => void, patient?: boolean}} how
   *   `patient`: the answer may take any time.
   * @returns {Promise<any>} the answer's JSON; null if it has none.
   */
  #request(method, url, { body, headers = {}, signal, onSent, patient = false }) {
    const { createRequest, withCredentials, csrfToken, stallTimeout } = this.#options;
    return new Promise((resolve, reject) => {
      signal?.throwIfAborted();
      const xhr = createRequest();
      let stalled = 0;
      const watch = () => {
        clearTimeout(stalled);
        if (patient || !stallTimeout) return;
        stalled = window.setTimeout(() => xhr.abort(), stallTimeout);
      };
      const abort = () => xhr.abort();
      const end = () => {
        clearTimeout(stalled);
        signal?.removeEventListener("abort", abort);
      };
      const lose = () => {
        end();
        reject(new UploadError("network", "The connection was lost.", { retryable: true }));
      };
      xhr.open(method, url);
      xhr.withCredentials = withCredentials;
      const token = typeof csrfToken === "function" ? csrfToken() : csrfToken;
      /** @type {Record<string, string>} */
      const all = { Accept: "application/json", ...this.#options.headers, ...headers };
      if (token) all["X-CSRFToken"] = token;
      for (const [name, value] of Object.entries(all)) xhr.setRequestHeader(name, value);
      if (onSent) {
        xhr.upload.onprogress = (event) => {
          watch();
          if (!signal?.aborted) onSent(event.loaded);
        };
      }
      xhr.onerror = lose;
      xhr.ontimeout = lose;
      xhr.onabort = lose;
      xhr.onload = () => {
        end();
        const answer = parsed(xhr.responseText);
        if (xhr.status >= 200 && xhr.status < 300) resolve(answer);
        else reject(refusal(xhr, answer));
      };
      signal?.addEventListener("abort", abort);
      watch();
      xhr.send(body);
    });
  }

  // -- memory across reloads --------------------------------------------------------

  get #key() {
    const { name, size, lastModified } = this.file;
    const endpoint = new URL(this.#options.endpoint, document.baseURI).href;
    return KEY_PREFIX + JSON.stringify([endpoint, name, size, lastModified]);
  }

  #recall() {
    const entry = readEntry(this.#options.storage, this.#key);
    if (entry === null) return;
    this.#url = entry.url;
    this.#inherited = true;
  }

  #remember() {
    const { name, size, lastModified } = this.file;
    const entry = { url: this.#url, name, size, lastModified };
    try {
      this.#options.storage?.setItem(this.#key, JSON.stringify(entry));
    } catch {
      // Storage is full or forbidden: the upload cannot be resumed after a reload.
    }
  }

  #forget() {
    const { storage } = this.#options;
    storage?.removeItem(this.#key);
    if (this.#url !== null) ChunkedUpload.forget(this.#url, storage);
  }

  // -- events -----------------------------------------------------------------------

  /** @param {State} state */
  #setState(state) {
    const previous = this.#state;
    if (state === previous) return;
    this.#state = state;
    this.#emit("state", { state, previous });
  }

  /** @param {number} offset */
  #reportProgress(offset) {
    const rate = this.#meter.measure(offset);
    const { length } = this;
    this.#emit("progress", {
      offset,
      confirmed: this.#offset,
      length,
      hashed: this.#hashed,
      rate,
      secondsLeft: rate > 0 ? (length - offset) / rate : null,
    });
  }

  /**
   * @param {string} type
   * @param {unknown} detail
   */
  #emit(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

/** Measures bytes per second over the last seconds. */
class Meter {
  /** @type {{at: number, offset: number}[]} */
  #samples = [];

  reset() {
    this.#samples = [];
  }

  get latest() {
    return this.#samples.at(-1)?.offset;
  }

  /** @param {number} offset */
  measure(offset) {
    const at = performance.now();
    if (offset < (this.latest ?? 0)) this.reset();
    this.#samples.push({ at, offset });
    while (at - this.#samples[0].at > RATE_WINDOW && this.#samples.length > 2) {
      this.#samples.shift();
    }
    const first = this.#samples[0];
    return at - first.at < 200 ? 0 : ((offset - first.offset) * 1000) / (at - first.at);
  }
}

/** The values of options that are not given. */
function defaults() {
  return {
    chunkSize: 8 * MIB,
    firstChunkSize: MIB / 16,
    checksum: "md5",
    headers: {},
    csrfToken: "",
    withCredentials: false,
    retryDelays: [500, 1000, 2000, 4000, 8000, 15000, 30000, 30000],
    stallTimeout: 60000,
    uploadUrl: null,
    fields: {},
    multipart: false,
    fieldName: "file",
    storage: localStorageOrNull(),
    workerUrl: new URL("chunked-upload-hash.js", import.meta.url),
    createRequest: () => new XMLHttpRequest(),
  };
}

/**
 * @param {Options} options
 * @returns {any}
 */
function defined(options) {
  return Object.fromEntries(
    Object.entries(options).filter(([, value]) => value !== undefined),
  );
}

/** Even reading the property throws if the user forbids storage. */
function localStorageOrNull() {
  try {
    return window.localStorage;
  } catch {
    return null;
  }
}

/** @param {Storage | null} storage */
function storedKeys(storage) {
  return Object.keys(storage ?? {}).filter((key) => key.startsWith(KEY_PREFIX));
}

/**
 * @param {Storage | null} storage
 * @param {string} key
 * @returns {Remembered | null}
 */
function readEntry(storage, key) {
  const entry = parsed(storage?.getItem(key) ?? "");
  return typeof entry?.url === "string" ? entry : null;
}

/** @param {string} text */
function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

/**
 * @param {unknown} error
 * @param {string} code
 */
function hasCode(error, code) {
  return error instanceof UploadError && error.code === code;
}

/**
 * True for a 400 that the same request would get again.
 *
 * @param {unknown} error
 * @returns {error is UploadError}
 */
function isFinalRefusal(error) {
  return error instanceof UploadError && error.status === 400 && !error.retryable;
}

/**
 * The error that a failed response means for the upload.
 *
 * @param {XMLHttpRequest} xhr
 * @param {any} body
 */
function refusal(xhr, body) {
  const { status } = xhr;
  const evidence = { status, body, retryAfter: retryAfter(xhr) };
  const detail = typeof body?.detail === "string" ? body.detail : null;
  if (status === 404 || status === 410) {
    const message = "The server has this upload no more. It has to be sent again.";
    return new UploadError("gone", message, { ...evidence, startOver: true });
  }
  if (status >= 500 || [408, 425, 429].includes(status)) {
    const message = `The server has a problem (${detail ?? `status ${status}`}).`;
    return new UploadError("server", message, { ...evidence, retryable: true });
  }
  const hasMoved = status === 409 || body?.expected_offset !== undefined;
  const message = `The server refused it: ${detail ?? `status ${status}`}.`;
  return new UploadError("refused", message, { ...evidence, retryable: hasMoved });
}

/**
 * Milliseconds to wait, from Retry-After (RFC 9110, section 10.2.3).
 *
 * @param {XMLHttpRequest} xhr
 */
function retryAfter(xhr) {
  const value = xhr.getResponseHeader("Retry-After");
  if (!value) return 0;
  const wanted = /^\d+$/.test(value) ? Number(value) * 1000 : Date.parse(value) - Date.now();
  return Math.min(Math.max(wanted || 0, 0), 10 * 60 * 1000);
}

/** @param {unknown} cause */
function unreadable(cause) {
  const message =
    "The file cannot be read: it was changed, moved or deleted since it was chosen.";
  return new UploadError("file", message, { cause });
}

/** @param {string} why */
function unhashable(why) {
  return new UploadError("hashing", `This browser cannot make the checksum: ${why}.`);
}

function unloaded() {
  const message = "The script that makes the checksum could not be loaded.";
  return new UploadError("hashing", message, { retryable: true });
}

/**
 * Replace lone surrogates: a filename may have some, but they have no percent-encoding.
 *
 * @param {string} name
 */
function wellFormed(name) {
  return name.replace(/\p{Surrogate}/gu, "\ufffd");
}

/**
 * A random delay from half to all of it, so that many clients do not return at once.
 *
 * @param {number} delay milliseconds
 */
function jittered(delay) {
  return delay * (0.5 + Math.random() / 2);
}

/**
 * Wait; end early if the signal aborts or the network returns.
 *
 * @param {number} delay milliseconds
 * @param {AbortSignal} [signal]
 * @returns {Promise<void>}
 */
function pause(delay, signal) {
  return new Promise((resolve) => {
    const end = () => {
      clearTimeout(timer);
      window.removeEventListener("online", end);
      signal?.removeEventListener("abort", end);
      resolve();
    };
    const timer = setTimeout(end, delay);
    window.addEventListener("online", end);
    signal?.addEventListener("abort", end);
  });
}

/**
 * The promise's result, or a rejection as soon as the signal aborts.
 *
 * @template T
 * @param {Promise<T>} promise
 * @param {AbortSignal} signal
 * @returns {Promise<T>}
 */
function unlessAborted(promise, signal) {
  return new Promise((resolve, reject) => {
    const abort = () => reject(signal.reason);
    if (signal.aborted) abort();
    signal.addEventListener("abort", abort);
    promise
      .then(resolve, reject)
      .finally(() => signal.removeEventListener("abort", abort));
  });
}
