/** A row of "On their way": one ChunkedUpload and what it tells. */

import * as format from "./format.js";
import { announce, newRow } from "./page.js";

const RUNNING = ["uploading", "hashing", "verifying"];

export class CurrentRow {
  /**
   * @param {import("../../../flask_chunked/static/chunked-upload.js").ChunkedUpload} upload
   * @param {{chunkSize: number, checksum: string | null}} options
   * @param {{onChange: (row: CurrentRow) => void, onGone: (row: CurrentRow) => void}} calls
   */
  constructor(upload, options, calls) {
    this.upload = upload;
    this.options = options;
    this.calls = calls;
    this.element = newRow("current-row", upload.file.name);
    document.querySelector("#current").append(this.element);
    this.part("progress").setAttribute("aria-label", `Progress of ${upload.file.name}`);
    this.part(".hash-name").textContent = format.hashLabel(options.checksum);
    this.part(".checksum").hidden = options.checksum === null;
    this.drawCuts();
    this.onAction("pause", () => this.pause());
    this.onAction("resume", () => this.resume());
    this.onAction("cancel", () => this.cancel());
    this.onAction("dismiss", () => this.dismiss());
    upload.addEventListener("state", () => this.showState());
    upload.addEventListener("progress", ({ detail }) => this.showProgress(detail));
    upload.addEventListener("retry", ({ detail }) => this.showRetry(detail));
    upload.addEventListener("error", ({ detail }) => this.showError(detail));
    this.showProgress({ offset: 0, length: upload.length, hashed: 0, rate: 0 });
    this.showState();
  }

  get name() {
    return this.upload.file.name;
  }

  get isRunning() {
    return RUNNING.includes(this.upload.state);
  }

  get isWaiting() {
    return this.upload.state === "ready" && !this.held;
  }

  /** @returns {any} */
  part(selector) {
    return this.element.querySelector(selector);
  }

  onAction(name, call) {
    this.part(`[data-action=${name}]`).addEventListener("click", call);
  }

  pause() {
    this.held = true;
    this.upload.pause();
    this.showState();
    this.calls.onChange(this);
    this.part("[data-action=resume]").focus();
  }

  resume() {
    this.held = false;
    this.upload.resume();
    this.part("[data-action=pause]").focus();
  }

  async cancel() {
    const told = this.upload.cancel();
    this.remove(`${this.name} is cancelled.`);
    await told;
    this.calls.onGone(this);
  }

  dismiss() {
    this.remove(`${this.name} is off the list.`);
  }

  remove(message) {
    clearInterval(this.countdown);
    this.element.remove();
    document.querySelector("#current-title").focus();
    announce(message);
    this.calls.onGone(this);
  }

  /** The borders between the pieces, where they can be told apart. */
  drawCuts() {
    const { length } = this.upload;
    const pieces = Math.ceil(length / this.options.chunkSize);
    const cuts = this.part(".cuts");
    cuts.hidden = pieces < 2 || pieces > 64;
    cuts.style.setProperty("--piece", `${(this.options.chunkSize / length) * 100}%`);
  }

  showProgress({ offset, length, hashed, rate, secondsLeft }) {
    this.sent = offset;
    const done = this.upload.state === "complete" ? 100 : format.percent(offset, length);
    this.part("progress").value = length ? offset / length : Number(done === 100);
    this.part(".percent").textContent = `${done} %`;
    const sizes = offset === length ? "" : `${format.size(offset)} of `;
    this.part(".amount").textContent = sizes + format.size(length);
    const moves = this.upload.state === "uploading" && rate > 0;
    this.part(".rate").textContent = moves ? `${format.size(rate)}/s` : "";
    this.part(".left").textContent =
      moves && secondsLeft >= 1 ? `${format.duration(secondsLeft)} left` : "";
    if (!this.upload.digest) {
      const share = `${format.percent(hashed, length)} % computed in this browser`;
      this.part(".digest").textContent = hashed ? share : "computed in this browser";
    } else {
      this.part(".digest").textContent = this.upload.digest;
    }
    const { state } = this.upload;
    if (state === "uploading" && !this.countdown) this.say(this.pieceText());
    if (state === "paused") this.say(this.pausedText());
  }

  pieceText() {
    const { chunkSize } = this.options;
    const pieces = Math.max(1, Math.ceil(this.upload.length / chunkSize));
    const piece = Math.min(pieces, Math.floor(this.sent / chunkSize) + 1);
    return pieces === 1 ? "Sending in one piece" : `Sending piece ${piece} of ${pieces}`;
  }

  pausedText() {
    return `Paused. The server has ${format.size(this.upload.offset)}`;
  }

  showState() {
    const { state, length } = this.upload;
    if (state !== "uploading") {
      this.stopCountdown();
      this.clearRate();
    }
    this.element.dataset.state = this.held && state === "ready" ? "paused" : state;
    const texts = {
      ready: this.held ? "Paused" : "Waits for its turn",
      uploading: this.pieceText(),
      hashing: "Everything is sent. The checksum is still being computed",
      verifying: "The server compares the checksum",
      paused: this.pausedText(),
      complete: "Complete",
    };
    if (texts[state]) this.say(texts[state]);
    this.showButtons(state);
    if (state === "complete") {
      this.showProgress({ offset: length, length, hashed: length, rate: 0 });
      this.part(".verified").hidden = this.options.checksum === null;
      announce(`${this.name} is complete.`);
      this.calls.onGone(this);
    } else if (state === "paused") {
      announce(`${this.name} is paused.`);
    } else if (state === "uploading" && !this.announced) {
      this.announced = true;
      announce(`${this.name} is being sent.`);
    }
    this.calls.onChange(this);
  }

  showButtons(state) {
    const idle = state === "paused" || (state === "ready" && this.held);
    const visible = {
      pause: this.isRunning || this.isWaiting,
      resume: idle || state === "failed",
      cancel: state !== "complete" && state !== "cancelled",
      dismiss: state === "complete",
    };
    for (const [action, isVisible] of Object.entries(visible)) {
      const button = this.part(`[data-action=${action}]`);
      const lostFocus = !isVisible && document.activeElement === button;
      button.hidden = !isVisible;
      if (lostFocus) this.focusFirstButton();
    }
    this.part("[data-action=resume]").textContent =
      state === "failed" ? "Try again" : "Resume";
  }

  focusFirstButton() {
    queueMicrotask(() => this.part(".actions button:not([hidden])")?.focus());
  }

  showRetry({ error, delay }) {
    this.stopCountdown();
    const until = performance.now() + delay;
    this.element.dataset.state = "retrying";
    this.clearRate();
    const tell = () => {
      const left = Math.ceil((until - performance.now()) / 1000);
      if (left <= 0) {
        this.stopCountdown();
        this.element.dataset.state = this.upload.state;
        return;
      }
      this.say(`${error.message} Next try in ${format.duration(left)}.`);
    };
    this.countdown = setInterval(tell, 200);
    tell();
    if (error.code === "network") announce(`${this.name}: ${error.message}`);
  }

  clearRate() {
    this.part(".rate").textContent = "";
    this.part(".left").textContent = "";
  }

  stopCountdown() {
    clearInterval(this.countdown);
    this.countdown = undefined;
  }

  showError(error) {
    this.stopCountdown();
    this.say(error.message);
    announce(`${this.name}: ${error.message}`);
  }

  say(text) {
    const line = this.part(".state");
    if (line.textContent !== text) line.textContent = text;
  }
}
