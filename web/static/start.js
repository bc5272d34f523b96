// The start page: it writes the link and the badge for what the form says.
"use strict";

(() => {
  const data = JSON.parse(document.getElementById("page-data").textContent);
  const el = (id) => document.getElementById(id);
  const form = el("launch-form");

  function link() {
    const repo = el("repository").value.trim();
    if (!repo) return "";
    const ref = el("ref").value.trim() || "HEAD";
    const path = el("path").value.trim();
    const q = new URLSearchParams();
    if (path && el("path-kind").value === "file") q.set("urlpath", "/doc/tree/" + path.replace(/^\/+/, ""));
    else if (path) q.set("urlpath", path);
    const query = q.toString();
    return `${data.hub}/v2/git/${encodeURIComponent(repo)}/${encodeURIComponent(ref).replaceAll("%2F", "/")}${query ? "?" + query : ""}`;
  }

  function update() {
    const url = link();
    el("share").hidden = !url;
    el("launch-url").textContent = url;
    el("badge-md").textContent = `[![Binder](${data.hub}/badge_logo.svg)](${url})`;
    el("badge-rst").textContent = `.. image:: ${data.hub}/badge_logo.svg\n :target: ${url}`;
    el("path-label").textContent = el("path-kind").value === "file" ? "File to open (in JupyterLab)" : "URL to open";
  }

  form.addEventListener("input", update);
  form.addEventListener("submit", (e) => {
    e.preventDefault();
    const url = link();
    if (url) location.assign(new URL(url).pathname + new URL(url).search);
  });
  document.addEventListener("click", async (e) => {
    const id = e.target instanceof HTMLElement && e.target.dataset.copy;
    if (!id) return;
    const was = e.target.textContent;
    try {
      await navigator.clipboard.writeText(el(id).textContent);
      e.target.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(el(id));
      e.target.textContent = "Selected";
    }
    setTimeout(() => { e.target.textContent = was; }, 2000);
  });
  update();
})();
