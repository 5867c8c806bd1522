// Drives the example with Uppy's Dashboard: node drive_uppy.mjs '{"scenario": ..., ...}'.

import { MIB, given, run, throttle } from "./chromium.mjs";

const SLOW = 8 * MIB; // bytes per second: a middle that exists on every machine

const button = (page, name) => page.getByRole("button", { name, exact: true });

/** Lists the uploads' requests, with the offsets that were sent and answered. */
function watch(page) {
  const entries = new Map();
  page.on("request", (request) => {
    if (!new URL(request.url()).pathname.startsWith("/uploads/")) return;
    const sent = request.headers()["upload-offset"];
    entries.set(request, { method: request.method(), url: request.url(), sent: sent && +sent });
  });
  page.on("response", (response) => {
    const entry = entries.get(response.request());
    if (!entry) return;
    entry.status = response.status();
    const told = response.headers()["upload-offset"];
    if (told) entry.told = +told;
  });
  return {
    now: () => [...entries.values()],
    clear: () => entries.clear(),
  };
}

const choose = (page, files) =>
  page.locator("input.uppy-Dashboard-input").first().setInputFiles(files);

async function start(page, count) {
  await page.getByRole("button", { name: new RegExp(`^Upload ${count} file`) }).click();
}

async function percentAtLeast(page, least) {
  await page.waitForFunction(
    (least) => {
      const bar = document.querySelector(".uppy-StatusBar [role=progressbar]");
      return bar?.getAttribute("aria-valuenow") >= least;
    },
    least,
    { polling: 20 },
  );
}

async function finish(page) {
  await page.getByText("Upload complete", { exact: true }).waitFor({ timeout: 60_000 });
  const links = page.locator("#uploads a.uppy-Dashboard-Item-previewLink");
  return {
    links: await links.evaluateAll((found) => found.map((link) => link.href)),
  };
}

/** The server's own view, through GET, which disturbs nothing. */
async function offset(page, url) {
  return (await (await page.request.get(url)).json()).offset;
}

/** Polls until the server's offset has stood still for ten looks. */
async function standstill(page, url) {
  let last = -1;
  for (let same = 0, look = 0; same < 10; look += 1) {
    if (look > 300) throw new Error("the offset does not stand still");
    const now = await offset(page, url);
    same = now === last ? same + 1 : 0;
    last = now;
    await page.waitForTimeout(50);
  }
  return last;
}

const scenarios = {
  async pause(page) {
    const requests = watch(page);
    await throttle(page, SLOW);
    await choose(page, given.files);
    await start(page, 1);
    await percentAtLeast(page, 20);
    await button(page, "Pause").click();
    await button(page, "Resume").waitFor();
    const { url } = requests.now().find(({ method }) => method === "PATCH");
    const paused = await standstill(page, url);
    requests.clear();
    await button(page, "Resume").click();
    return { ...(await finish(page)), paused, requests: requests.now() };
  },

  async reload(page) {
    const requests = watch(page);
    await throttle(page, SLOW);
    await choose(page, given.files);
    await start(page, 1);
    await percentAtLeast(page, 30);
    const { url } = requests.now().find(({ method }) => method === "PATCH");
    await page.reload();
    await page.getByText("Session restored", { exact: true }).waitFor();
    const kept = await standstill(page, url);
    requests.clear();
    await button(page, "Re-select").click();
    await choose(page, given.files);
    await page.getByText("We restored all files").waitFor();
    await start(page, 1);
    return { ...(await finish(page)), kept, requests: requests.now() };
  },

  async several(page) {
    const requests = watch(page);
    await choose(page, given.files);
    await start(page, given.files.length);
    return { ...(await finish(page)), requests: requests.now() };
  },
};

await run(scenarios, ".uppy-Dashboard-inner");
