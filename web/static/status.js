// The status page: it asks what the queue is now, while somebody looks.
"use strict";

(() => {
  const data = JSON.parse(document.getElementById("page-data").textContent);
  const el = (id) => document.getElementById(id);
  const most = 50;

  const cell = (...parts) => {
    const td = document.createElement("td");
    td.append(...parts);
    return td;
  };

  const time = (seconds) => {
    const td = cell(Words.of(seconds));
    td.className = "nowrap";
    return td;
  };

  function name(src, id) {
    const a = document.createElement(id ? "a" : "span");
    if (id) a.href = data.builds + encodeURIComponent(id);
    let text = src.url || "not shown";
    try {
      text = new URL(src.url).pathname.replace(/^\/+|\/+$|\.git\/?$/g, "").split("/").slice(-2).join("/") || text;
    } catch {
      // what is no URL is shown as it is
    }
    a.textContent = text;
    const small = document.createElement("small");
    small.textContent = src.ref || "";
    return [a, " ", small];
  }

  // brief is a message in one line: what happened, and the last that a step said.
  function brief(message) {
    const lines = message.trimEnd().split("\n");
    return lines.length > 1 ? lines[0] + " " + lines[lines.length - 1].trim() : message;
  }

  function fill(id, rows, none, width) {
    const body = el(id).tBodies[0];
    const shown = rows.slice(0, most).map((cells) => {
      const tr = document.createElement("tr");
      tr.append(...cells);
      return tr;
    });
    if (!shown.length) {
      const td = cell(none);
      td.colSpan = width;
      td.className = "muted";
      const tr = document.createElement("tr");
      tr.append(td);
      shown.push(tr);
    }
    const focused = body.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
    body.replaceChildren(...shown);
    if (focused) body.querySelector(`a[href="${CSS.escape(focused)}"]`)?.focus();
  }

  const second = 1e9; // durations come in nanoseconds

  function show(q) {
    const at = Date.parse(q.at);
    el("taken").textContent = `${q.taken} of ${q.slots}`;
    el("waits").textContent = q.waiting.length + (q.more || 0);
    el("sessions").textContent = q.sessions;
    fill("running", q.running.map((b) => [
      cell(...name(b.source, b.id)), time(b.age / second), cell(b.watchers), cell(b.class),
      cell(b.stopping ? "being stopped: " + b.stopping : b.expected > 0 ? "usually takes " + Words.of(b.expected / second) : ""),
    ]), "Nothing is being built.", 5);
    fill("waiting", q.waiting.map((b) => [
      cell(b.standing.position), cell(...name(b.source, b.id)), time(b.age / second),
      cell(Words.starts(b.standing.from, b.standing.to, at)), cell(b.standing.reason || ""),
    ]), "Nothing waits.", 5);
    fill("failed", q.failures.map((f) => [
      cell(...name(f.source || {}, f.build)), cell(f.row), time((Date.parse(f.until) - at) / 1000), cell(f.error ? brief(f.error.message) : ""),
    ]), "None.", 4);
    el("fresh").textContent = "As of " + new Date(at).toLocaleTimeString() + ".";
  }

  async function look() {
    if (document.hidden || !data.queue) return;
    try {
      const r = await fetch(data.queue, { headers: { accept: "application/json" } });
      if (!r.ok) throw new Error(r.status);
      show(await r.json());
    } catch {
      el("fresh").textContent = "The hub does not answer; asking again.";
    }
  }

  setInterval(look, 2000);
  document.addEventListener("visibilitychange", look);
})();
