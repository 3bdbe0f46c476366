/**
 * Runs before the first paint: chooses the theme and what the page shows until its modules run,
 * and sends the first requests of the page, so that their answers are on the way while the modules load.
 * `lib/early.js` takes the answers.
 */
(() => {
  const API = "/api/v1";
  const SIGN_IN = `${API}/me/sign-in`;
  const LINK = "#sign-in=";
  const key = sessionStorage.getItem("dynamic-agents-key");
  const code = location.hash.startsWith(LINK) ? location.hash.slice(LINK.length) : null;
  const { dataset } = document.documentElement;
  dataset.theme = localStorage.getItem("dynamic-agents-theme") ?? "";
  dataset.visitor = key || code ? "known" : "new";

  /** What the page asks for first. */
  const addresses = () => {
    const [page = "runs", id] = location.pathname.split("/").filter(Boolean);
    const found = ["/me", "/departments?limit=200", "/agents?limit=200"];
    if (page === "runs" && id) {
      found.push(`/executions/${id}`, `/executions?rootExecutionId=${id}&sort=createdAt&limit=200`);
      if (!location.search) found.push(`/executions/${id}?omit=params%2CrunState`);
    } else if (page === "runs" && !location.search) found.push("/executions?isRoot=true&limit=50&sort=-createdAt");
    return found.map((path) => API + path);
  };

  /** @type {Map<string, Promise<Response>>} */
  const early = new Map();
  const ask = (/** @type {string} */ apiKey) => {
    const headers = { Accept: "application/json", Authorization: `Bearer ${apiKey}` };
    for (const address of addresses()) early.set(address, fetch(address, { headers }));
  };
  const signIn = async () => {
    const headers = { Accept: "application/json", "Content-Type": "application/json" };
    const answer = await fetch(SIGN_IN, { method: "POST", headers, body: JSON.stringify({ code }) });
    if (answer.ok) ask((await answer.clone().json()).apiKey);
    return answer;
  };
  if (code) early.set(SIGN_IN, signIn());
  else if (key) ask(key);
  for (const answer of early.values()) answer.catch(() => {});
  Object.assign(globalThis, { early });
})();
