// What the drivers share: a Chromium, a slow network, and one scenario in a fresh page.
// Prints a JSON object with what the scenario saw; everything else fails with a reason.

import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

export const given = JSON.parse(process.argv[2]);
export const MIB = 2 ** 20;

const { chromium } = createRequire(pathToFileURL(`${given.playwright}/`))("./");

const ARGUMENTS = [
  "--headless",
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

const problems = [];

async function open(context, ready) {
  const page = await context.newPage();
  page.setDefaultTimeout(30_000);
  page.on("pageerror", (error) => problems.push(`script: ${error}`));
  page.on("console", (message) => {
    if (/Content Security Policy|Refused to/.test(message.text())) problems.push(message.text());
  });
  await page.goto(given.url);
  await page.waitForSelector(ready);
  return page;
}

export async function throttle(page, bytesPerSecond) {
  const session = await page.context().newCDPSession(page);
  await session.send("Network.enable");
  await session.send("Network.emulateNetworkConditions", {
    offline: false,
    latency: 0,
    downloadThroughput: -1,
    uploadThroughput: bytesPerSecond,
  });
}

function tooLate() {
  return new Promise((_, reject) => {
    setTimeout(() => reject(new Error("the scenario hangs")), 80_000).unref();
  });
}

/** Runs the scenario that was given; `ready` is a selector of what a loaded page has. */
export async function run(scenarios, ready) {
  const browser = await chromium.launch({ executablePath: given.chromium, args: ARGUMENTS });
  try {
    const page = await open(await browser.newContext({ acceptDownloads: true }), ready);
    const seen = await Promise.race([scenarios[given.scenario](page), tooLate()]);
    console.log(JSON.stringify({ ...seen, problems }));
  } catch (error) {
    console.error(String(error), problems);
    process.exitCode = 1;
  } finally {
    await browser.close();
  }
}
