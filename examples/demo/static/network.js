/** A network that can be cut: every request in flight is lost, new ones fail. */

const CUT_SECONDS = 5;

/** @type {Set<CuttableRequest>} */
const running = new Set();
let isCut = false;

/** What the uploads use instead of a plain XMLHttpRequest. */
export class CuttableRequest extends XMLHttpRequest {
  constructor() {
    super();
    this.addEventListener("loadstart", () => running.add(this));
    this.addEventListener("loadend", () => running.delete(this));
  }

  send(body) {
    if (!isCut) {
      super.send(body);
      return;
    }
    setTimeout(() => this.dispatchEvent(new ProgressEvent("error")), 50);
  }
}

/**
 * Cut it for a while.
 *
 * @param {(secondsLeft: number) => void} tell called every second, with 0 at the end.
 */
export function cut(tell) {
  if (isCut) return;
  isCut = true;
  for (const request of [...running]) request.abort();
  let left = CUT_SECONDS;
  tell(left);
  const timer = setInterval(() => {
    left -= 1;
    isCut = left > 0;
    if (!isCut) clearInterval(timer);
    tell(left);
  }, 1000);
}
