"use strict";
// Opens one of the generated files by its number.
document.querySelector("#open").addEventListener("submit", (event) => {
  event.preventDefault();
  location.assign(`file${new FormData(event.target).get("number")}.html`);
});
