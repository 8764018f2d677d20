"use strict";
// Everything here adds to pages that are complete without it.
document.documentElement.classList.add("scripted");

const menu = document.querySelector(".menu");
const menuButton = document.querySelector(".menu-button");
menuButton.addEventListener("click", () => {
  const open = menu.classList.toggle("open");
  menuButton.setAttribute("aria-expanded", String(open));
});

function press(buttons, pressed) {
  for (const button of buttons) button.setAttribute("aria-pressed", String(button === pressed));
}

const scene = document.querySelector(".scene");
if (scene) {
  const buttons = [...scene.querySelectorAll("button")];
  const show = (button) => {
    scene.dataset.hour = button.value;
    press(buttons, button);
  };
  for (const button of buttons) button.addEventListener("click", () => show(button));
  scene.querySelector(".hours").hidden = false;
  const hour = new Date().getHours();
  const now = hour < 5 || hour > 21 ? "night" : hour < 10 ? "dawn" : hour < 17 ? "noon" : "dusk";
  show(buttons.find((button) => button.value === now));
}

const filters = document.querySelector(".filters");
if (filters) {
  const buttons = [...filters.querySelectorAll("button")];
  const tiles = [...document.querySelectorAll("[data-kind]")];
  for (const button of buttons) {
    button.addEventListener("click", () => {
      press(buttons, button);
      for (const tile of tiles) tile.hidden = button.value !== "" && tile.dataset.kind !== button.value;
    });
  }
  filters.hidden = false;
}
