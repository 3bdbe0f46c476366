/** Whether the browser has a network, and whether the live stream is connected. */
import { signal } from "./html.js";

export const isOnline = signal(navigator.onLine);
addEventListener("online", () => {
  isOnline.value = true;
});
addEventListener("offline", () => {
  isOnline.value = false;
});

/** Whether a followed run has lost its connection. */
export const isReconnecting = signal(false);
