/** The names, icons and colors of departments and agents, read once for the session. */
import { computed, effect, signal } from "./html.js";
import { session } from "./session.js";

const PAGE = 200;

/** @type {import("./types.js").Signal<Map<string, any>>} */
export const departments = signal(new Map());
/** @type {import("./types.js").Signal<Map<string, any>>} */
export const agents = signal(new Map());

/**
 * Reads every item of a list.
 *
 * @param {string} path
 * @param {import("../client/types.js").Query} [query]
 */
export async function readAll(path, query = {}) {
  const items = [];
  let cursor;
  do {
    /** @type {any} */
    const page = await session.value?.client.get(path, { ...query, limit: PAGE, cursor });
    items.push(...(page?.items ?? []));
    cursor = page?.nextCursor;
  } while (cursor);
  return items;
}

/** Reads the names again, after the catalog has changed. */
export async function loadNames() {
  const [teams, people] = await Promise.all([readAll("/departments"), readAll("/agents")]);
  departments.value = new Map(teams.map((one) => [one.slug, one]));
  agents.value = new Map(people.map((one) => [one.agentId, one]));
}

effect(() => {
  if (session.value) loadNames().catch(() => {});
});

/** @param {string | null | undefined} id */
export const agentName = (id) => (id ? (agents.value.get(id)?.name ?? id) : "Deleted agent");

/** @param {string | null | undefined} slug */
export const departmentName = (slug) => (slug ? (departments.value.get(slug)?.name ?? slug) : "No department");

/**
 * The icon of a department as an emoji, its initial where it has none.
 *
 * @param {any} department
 */
export function departmentIcon(department) {
  const icon = department?.icon ?? "";
  if (/\p{Extended_Pictographic}/u.test(icon)) return icon;
  return (department?.name ?? "?").slice(0, 1).toUpperCase();
}

/**
 * Departments in the order of their priority.
 *
 * @type {import("./types.js").Signal<any[]>}
 */
export const orderedDepartments = computed(() =>
  [...departments.value.values()].sort((a, b) => a.priority - b.priority || a.name.localeCompare(b.name)),
);
