/** The number of bytes in words that people read. */
export function readable(bytes) {
  return bytes < 1024 ? `${bytes} B` : `${(bytes / 1024).toFixed(1)} KiB`;
}

/** Append one row of texts to a table body; the second cell is marked as expected or not. */
export function row(body, texts, expected) {
  const line = body.insertRow();
  for (const text of texts) line.insertCell().textContent = text;
  line.cells[1].dataset.state = expected ? "ok" : "bad";
}
