/** Light or dark: the system's choice until the reader makes another. */
import { effect, signal } from "./html.js";

const STORED = "dynamic-agents-theme";
const system = matchMedia("(prefers-color-scheme: dark)");

/** @type {import("./types.js").Signal<string>} */
const chosen = signal(localStorage.getItem(STORED) ?? "");

/** Whether the page is dark now. */
export const isDark = signal(system.matches);

const update = () => {
  isDark.value = chosen.value ? chosen.value === "dark" : system.matches;
};
system.addEventListener("change", update);

effect(() => {
  document.documentElement.dataset.theme = chosen.value;
  update();
});

/** Switches between light and dark. */
export function switchTheme() {
  chosen.value = isDark.value ? "light" : "dark";
  localStorage.setItem(STORED, chosen.value);
}
