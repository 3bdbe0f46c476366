export { Client, Run } from "./client.js";
export { ApiError } from "./errors.js";
export { followEvents } from "./events.js";
