// The start page: it shows the form of the chosen provider, and writes the link and the badges for what the form says.
"use strict";

(() => {
  const data = JSON.parse(document.getElementById("page-data").textContent);
  const el = (id) => document.getElementById(id);
  const form = el("launch-form");
  const provider = () => data.providers.find((p) => p.id === el("provider").value) || data.providers[0];

  // named takes out of what was pasted what the provider's links name: a repository, and the ref of a page of its files.
  function named(p) {
    let text = el("repository").value.trim();
    if (p.ref.enabled && /^https?:\/\//.test(text)) text = text.replace(/[?#].*$/, ""); // of a page that shows the repository
    if (!p.detect || !p.detect.regex) return { repo: text, ref: "" };
    const repo = new RegExp(p.detect.regex).exec(text)?.groups?.repo || "";
    const page = (p.repo.urlEncode ? /^(.+?)\/-\/tree\/(.+)$/ : /^([^/]+\/[^/]+)\/tree\/(.+)$/).exec(repo);
    return page ? { repo: page[1], ref: decoded(page[2]) } : { repo, ref: "" };
  }

  function decoded(text) {
    try {
      return decodeURIComponent(text);
    } catch {
      return text;
    }
  }

  function link() {
    const p = provider();
    const { repo, ref: pasted } = named(p);
    if (!repo) return "";
    const ref = p.ref.enabled ? el("ref").value.trim() || pasted || p.ref.default || "HEAD" : "";
    const path = el("path").value.trim();
    const q = new URLSearchParams();
    if (path && el("path-kind").value === "file") q.set("urlpath", "/doc/tree/" + path.replace(/^\/+/, ""));
    else if (path && el("path-kind").value === "lab") q.set("labpath", path.replace(/^\/+/, ""));
    else if (path) q.set("urlpath", path);
    const query = q.toString();
    const name = p.repo.urlEncode ? encodeURIComponent(repo) : encodeURIComponent(repo).replaceAll("%2F", "/");
    return `${data.hub}/v2/${p.id}/${name}/${encodeURIComponent(ref).replaceAll("%2F", "/")}${query ? "?" + query : ""}`;
  }

  // home is what URLs of a provider have after the scheme. Its expression begins with that, and leaves it open.
  const home = (p) => /^\^\(https\?:\/\/(.+?\/)\)\?/.exec(p.detect?.regex || "")?.[1];

  // A URL of a provider's chooses that provider.
  function detect() {
    const text = el("repository").value.trim();
    if (!/^https?:\/\//.test(text)) return;
    const rest = text.slice(text.indexOf("//") + 2);
    const found = [provider(), ...data.providers].find((p) => home(p) && rest.startsWith(home(p)));
    if (found) el("provider").value = found.id;
    else if (data.providers.some((p) => p.id === "git") && provider().detect) el("provider").value = "git";
  }

  function choose() {
    const p = provider();
    el("repository-label").textContent = p.repo.label;
    el("repository").placeholder = p.repo.placeholder;
    el("ref-field").hidden = !p.ref.enabled;
    el("ref").placeholder = p.ref.default || "HEAD";
    update();
  }

  function update() {
    const p = provider();
    const url = link();
    const valid = url !== "" && new RegExp("^(?:" + p.spec.validateRegex + ")").test(decodeURI(new URL(url).pathname.split("/v2/" + p.id + "/")[1] || ""));
    const typed = el("repository").value.trim() !== "";
    el("form-hint").textContent = typed && !valid ? "That does not look like what this provider names. " + (p.repo.placeholder || "") : "";
    el("share").hidden = !valid;
    el("launch-url").textContent = url;
    el("badge-md").textContent = `[![Binder](${data.hub}/badge_logo.svg)](${url})`;
    el("badge-rst").textContent = `.. image:: ${data.hub}/badge_logo.svg\n :target: ${url}`;
    const amp = url.replaceAll("&", "&amp;").replaceAll('"', "&quot;");
    el("badge-html").textContent = `<a href="${amp}"><img src="${data.hub}/badge_logo.svg" alt="Binder"></a>`;
    const words = { file: "File to open (in JupyterLab)", lab: "Path to open in JupyterLab", url: "URL to open" };
    el("path-label").textContent = words[el("path-kind").value];
  }

  form.addEventListener("input", (e) => {
    if (e.target === el("repository")) detect();
    choose();
  });
  form.addEventListener("submit", (e) => {
    const url = link();
    if (!url) return; // the hub says what is wrong
    e.preventDefault();
    location.assign(new URL(url).pathname + new URL(url).search);
  });
  document.addEventListener("click", async (e) => {
    const id = e.target instanceof HTMLElement && e.target.dataset.copy;
    if (!id) return;
    const was = e.target.textContent;
    let now = "Copied";
    try {
      await navigator.clipboard.writeText(el(id).textContent);
    } catch {
      getSelection().selectAllChildren(el(id));
      now = "Selected";
    }
    e.target.textContent = el("copied").textContent = now;
    setTimeout(() => { e.target.textContent = was; el("copied").textContent = ""; }, 2000);
  });
  choose();
})();
