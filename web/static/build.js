// A build's own page: its log and its timeline, from the first event on, and further while it lives.
"use strict";

(() => {
  const data = JSON.parse(document.getElementById("page-data").textContent);
  const el = (id) => document.getElementById(id);
  const terminal = new Terminal(el("terminal"));
  terminal.follow = el("follow").checked = !data.over;
  const steps = new Map(); // by id, in order of their start
  let drawing = false;
  let source = null;
  let seen = 0;
  let attempts = 0;

  const given = (t) => (t && !t.startsWith("0001") ? Date.parse(t) : 0);

  function draw() {
    drawing = false;
    const all = [...steps.values()].filter((s) => given(s.started));
    if (!all.length) return;
    const now = Date.now();
    const first = Math.min(...all.map((s) => given(s.started)));
    const last = Math.max(...all.map((s) => given(s.ended) || (data.over ? given(s.started) : now)), first + 1);
    all.forEach((s, i) => {
      const from = given(s.started);
      const to = given(s.ended) || (data.over ? from : now);
      s.row.className = s.failed ? "failed" : s.cached ? "cached" : given(s.ended) ? "" : "open";
      const [, took, when] = s.row.cells;
      const bar = when.firstChild;
      took.textContent = s.cached ? "from the cache" : (s.failed ? "failed after " : "") + Words.of((to - from) / 1000);
      bar.style.marginLeft = (95 * (from - first)) / (last - first) + "%";
      bar.style.width = Math.max(0.5, (95 * (to - from)) / (last - first)) + "%";
      const rows = el("steps-body").rows;
      if (rows[i] !== s.row) el("steps-body").insertBefore(s.row, rows[i] || null);
    });
    el("timeline").hidden = false;
  }

  // row makes a step's row, which stays: what is selected in it stays selected.
  function row(name) {
    const tr = document.createElement("tr");
    const bar = document.createElement("span");
    bar.className = "bar";
    tr.insertCell().textContent = name;
    tr.insertCell();
    tr.insertCell().append(bar);
    return tr;
  }

  // plan shows what the repository's files ask for.
  function plan(p) {
    const rows = [
      ["Builder", p.pack], ["Configuration in", p.config_dir], ["Base", p.base], ["Python", p.python], ["Dockerfile", p.dockerfile],
      ["Debian packages", (p.apt || []).join(" ")],
      ...(p.env || []).map((i) => ["Environment", install(i)]), ...(p.content || []).map((i) => ["With the files", install(i)]),
      ["After that", p.post_build], ["At the start", p.start], ["The environment reads", (p.reads || []).join(" ")],
    ];
    el("plan-facts").replaceChildren(...rows.filter((r) => r[1]).map(([name, text]) => {
      const div = document.createElement("div");
      const dt = document.createElement("dt");
      const code = document.createElement("code");
      const dd = document.createElement("dd");
      dt.textContent = name;
      code.textContent = text;
      dd.append(code);
      div.append(dt, dd);
      return div;
    }));
    decisions("plan-why", p.why || []);
    decisions("plan-ignored", p.ignored || []);
    el("ignored-title").hidden = el("plan-ignored").hidden = !(p.ignored || []).length;
    el("plan").hidden = false;
  }

  const install = (i) => [i.tool, i.version, ...(i.files || []), ...(i.args || [])].filter(Boolean).join(" ");

  function decisions(id, all) {
    el(id).replaceChildren(...all.map((d) => {
      const li = document.createElement("li");
      if (d.file) {
        const code = document.createElement("code");
        code.textContent = d.file;
        li.append(code, ": ");
      }
      li.append(d.text);
      return li;
    }));
  }

  function receive(e) {
    if (e.plan) plan(e.plan);
    if (e.phase !== "building" && e.phase !== "fetching") terminal.finishLine();
    if (e.message) terminal.write(e.message);
    if (e.step && e.step.id && e.step.name) {
      steps.set(e.step.id, { row: row(e.step.name), ...steps.get(e.step.id), ...e.step });
      if (!drawing) {
        drawing = true;
        setTimeout(draw, 200);
      }
    }
  }

  async function over() {
    source.close();
    const was = data.over;
    data.over = true;
    draw();
    Standing.tell(null);
    if (was) return;
    try {
      const b = await (await fetch(data.state)).json();
      el("state").textContent = b.state;
      el("build").dataset.state = b.state;
    } catch {
      el("state").textContent = "ended";
    }
  }

  function connect() {
    const url = new URL(data.events, location.origin);
    if (seen) url.searchParams.set("after", seen);
    source = new EventSource(url);
    source.onmessage = (m) => {
      attempts = 0;
      seen = Number(m.lastEventId) || seen;
      receive(JSON.parse(m.data));
    };
    source.addEventListener("standing", (m) => Standing.tell(JSON.parse(m.data)));
    source.addEventListener("end", over);
    source.onerror = () => {
      source.close();
      setTimeout(connect, 1000 * Math.min(30, 2 ** attempts++));
    };
  }

  setInterval(Standing.tick, 250);
  setInterval(() => data.over || draw(), 1000);
  el("follow").onchange = () => {
    terminal.follow = el("follow").checked;
    if (terminal.follow) el("terminal").scrollTop = el("terminal").scrollHeight;
  };
  connect();
})();
