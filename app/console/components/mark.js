/** The sign of a department: its icon on its color. */
import { html, useLayoutEffect, useRef } from "../lib/html.js";
import { departmentIcon, departments } from "../lib/names.js";

/** @param {{ slug: string | null | undefined, small?: boolean }} props */
export function DepartmentMark({ slug, small = false }) {
  const mark = useRef(/** @type {HTMLElement | null} */ (null));
  const department = departments.value.get(slug ?? "");
  const color = /^#[0-9a-f]{6}$/i.test(department?.color ?? "") ? department.color : null;
  useLayoutEffect(() => {
    if (color) mark.current?.style.setProperty("--mark", color);
    else mark.current?.style.removeProperty("--mark");
  }, [color]);
  return html`<span class=${`mark ${small ? "small" : ""}`} ref=${mark} aria-hidden="true">${slug ? departmentIcon(department ?? { name: slug }) : "·"}</span>`;
}
