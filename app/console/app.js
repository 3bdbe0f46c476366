/** The frame of every page: navigation, banner, account, and the page at the current address. */
import { Icon } from "./components/icon.js";
import { Empty, Loading, Problem } from "./components/states.js";
import { Toasts } from "./components/toast.js";
import { count } from "./lib/format.js";
import { html, useEffect, useState } from "./lib/html.js";
import { waiting } from "./lib/inbox.js";
import { isOnline, isReconnecting } from "./lib/online.js";
import { Link, route } from "./lib/router.js";
import { isOpening, session, signOut } from "./lib/session.js";
import { isDark, switchTheme } from "./lib/theme.js";
import { SignIn } from "./pages/sign-in.js";

/** The pages by the first part of their address; each module runs when it is first opened. */
const PAGES = [
  { path: "runs", title: "Runs", icon: "runs", load: () => import("./pages/runs/index.js") },
  { path: "inbox", title: "Inbox", icon: "inbox", load: () => import("./pages/inbox/index.js") },
  { path: "catalog", title: "Catalog", icon: "catalog", load: () => import("./pages/catalog/index.js") },
  { path: "usage", title: "Usage", icon: "usage", load: () => import("./pages/usage.js") },
  { path: "quality", title: "Quality", icon: "quality", load: () => import("./pages/quality.js") },
  { path: "operations", title: "Operations", icon: "operations", load: () => import("./pages/operations.js") },
];
/** Pages that other pages lead to; the navigation shows them as runs. */
const UNLISTED = [
  { path: "start", title: "Start run", icon: "plus", load: () => import("./pages/start.js") },
  { path: "compare", title: "Compare", icon: "compare", load: () => import("./pages/compare/index.js") },
];
const MAX_SHOWN_COUNT = 999;

export function App() {
  if (!session.value && !isOpening.value) return html`<${SignIn} />`;
  return html`<${Shell} />`;
}

function Shell() {
  const parts = route.value.path.split("/").filter(Boolean).map(decodeURIComponent);
  const page = [...PAGES, ...UNLISTED].find((one) => one.path === (parts[0] ?? "runs"));
  return html`<a class="button skip" href="#content">Skip to the content</a>
    <div class="shell">
      <${Sidebar} current=${UNLISTED.some((one) => one === page) ? "runs" : page?.path} />
      <div class="main">
        <${Banner} />
        <main class="main" id="content" tabindex="-1">
          ${!session.value ? html`<div class="page"><${Loading} lines=${9} /></div>` : page ? html`<${Page} key=${page.path} page=${page} parts=${parts.slice(1)} />` : html`<${Empty} title="Page not found" />`}
        </main>
      </div>
    </div>
    <${Toasts} />`;
}

/** @param {{ current?: string }} props */
function Sidebar({ current }) {
  // On a narrow window the navigation scrolls, and the current page may be beyond its edge.
  useEffect(() => document.querySelector(".sidebar nav [aria-current]")?.scrollIntoView({ block: "nearest", inline: "nearest" }), [current]);
  return html`<header class="sidebar">
    <${Link} to="/runs" class="brand"><img src="/console/icon.svg" alt="" />Dynamic Agents<//>
    <nav aria-label="Main">
      ${PAGES.map(
        (page) => html`<${Link} key=${page.path} to=${`/${page.path}`} aria-current=${page.path === current ? "page" : undefined}>
          <${Icon} name=${page.icon} /><span>${page.title}</span>
          ${page.path === "inbox" && html`<${Waiting} />`}
        <//>`,
      )}
    </nav>
    <div class="account">
      <div class="who"><div class="clip">${session.value?.name}</div><div class="role">${session.value?.role}</div></div>
      <button class="button plain" onClick=${switchTheme}><${Icon} name=${isDark.value ? "sun" : "moon"} label=${isDark.value ? "Light theme" : "Dark theme"} /></button>
      <button class="button plain" onClick=${signOut} aria-label="Sign out" title="Sign out"><${Icon} name="leave" /></button>
    </div>
  </header>`;
}

function Waiting() {
  const total = Object.values(waiting.value).reduce((sum, count) => sum + count, 0);
  return total > 0 && html`<span class="count"><span aria-hidden="true">${total > MAX_SHOWN_COUNT ? `${MAX_SHOWN_COUNT}+` : total}</span><span class="hidden">, ${count(total)} waiting</span></span>`;
}

/** Tells the reader that the page shows an old state. It is always in the page, so that assistive technology hears its changes. */
function Banner() {
  const text = !isOnline.value
    ? "You are offline. The page resumes when the connection is back."
    : isReconnecting.value
      ? "Connection lost: reconnecting …"
      : "";
  return html`<div role="status" aria-label="Connection" class=${text ? "banner" : "hidden"}>
    ${text && html`<${Icon} name="offline" />`}<span>${text}</span>
  </div>`;
}

/** @param {{ page: typeof PAGES[number], parts: string[] }} props */
function Page({ page, parts }) {
  const [module, setModule] = useState(/** @type {any} */ (undefined));
  const [error, setError] = useState(/** @type {Error | undefined} */ (undefined));
  const load = () => page.load().then(setModule, setError);
  useEffect(() => {
    document.title = `${page.title} · Dynamic Agents`;
    load();
  }, [page]);
  if (module) return html`<${module.default} parts=${parts} />`;
  return html`<div class="page">${error ? html`<${Problem} error=${error} onRetry=${load} />` : html`<${Loading} />`}</div>`;
}
