// Asks the server that sent this page for one file of each type, and for one file in several ways.
import { readable, row } from "./table.mjs";

const types = document.querySelector("#types tbody");
const exchanges = document.querySelector("#exchanges tbody");
const sample = new URL("../images/jpg/dusk.jpg", import.meta.url);

async function checkType(line) {
  const [path, state, size] = [line.querySelector("a").href, line.cells[2], line.cells[3]];
  try {
    const response = await fetch(path, { cache: "no-store" });
    const bytes = (await response.arrayBuffer()).byteLength;
    const type = response.headers.get("Content-Type") ?? "none";
    state.textContent = response.ok ? type : `status ${response.status}`;
    state.dataset.state = response.ok && type.split(";")[0] === line.dataset.type ? "ok" : "bad";
    size.textContent = readable(bytes);
  } catch (error) {
    state.textContent = error.message;
    state.dataset.state = "bad";
  }
}

async function exchange(name, init, expected, url = sample) {
  const began = performance.now();
  const response = await fetch(url, { cache: "no-store", ...init });
  const bytes = (await response.arrayBuffer()).byteLength;
  const ms = (performance.now() - began).toFixed(1);
  row(exchanges, [name, String(response.status), readable(bytes), `${ms} ms`], response.status === expected);
  return response;
}

async function runExchanges() {
  exchanges.replaceChildren();
  const whole = await exchange("GET, the whole picture", {}, 200);
  await exchange("HEAD, the fields alone", { method: "HEAD" }, 200);
  const etag = whole.headers.get("ETag");
  if (etag) await exchange("GET with If-None-Match", { headers: { "If-None-Match": etag } }, 304);
  const modified = whole.headers.get("Last-Modified");
  if (modified) await exchange("GET with If-Modified-Since", { headers: { "If-Modified-Since": modified } }, 304);
  if (whole.headers.get("Accept-Ranges") === "bytes") {
    await exchange("GET, the first 1000 bytes", { headers: { Range: "bytes=0-999" } }, 206);
    await exchange("GET, the last 500 bytes", { headers: { Range: "bytes=-500" } }, 206);
  }
  await exchange("GET of a missing file", {}, 404, new URL("../no-such-file.html", import.meta.url));
}

async function addByWasm() {
  const module = await WebAssembly.instantiateStreaming(fetch(new URL("./add.wasm", import.meta.url)));
  document.querySelector("#wasm").textContent = `A WebAssembly module says: 19 + 23 = ${module.instance.exports.add(19, 23)}`;
}

const button = document.querySelector("#run");
button.addEventListener("click", async () => {
  button.disabled = true;
  try {
    await runExchanges();
  } finally {
    button.disabled = false;
  }
});
await Promise.all([...types.rows].map(checkType));
await addByWasm().catch((error) => { document.querySelector("#wasm").textContent = error.message; });
document.documentElement.dataset.ready = "yes";
