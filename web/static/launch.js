// The launch page: it follows the event stream, shows where the launch stands, and leads to the session.
"use strict";

(() => {
  const data = JSON.parse(document.getElementById("page-data").textContent);
  const el = (id) => document.getElementById(id);
  const terminal = new Terminal(el("terminal"));
  const order = ["waiting", "fetching", "building", "launching", "ready"];
  const words = {
    waiting: "Waiting for the build to start",
    fetching: "Fetching the repository",
    building: "Building the environment",
    pushing: "Storing the image",
    built: "The image is built",
    launching: "Starting your session",
    ready: "Ready. Taking you there…",
  };
  const faults = {
    user: "Something in the repository or the link needs a change",
    transient: "This may pass by itself",
    ours: "This is a fault of this hub",
  };
  let source = null;
  let seen = "";       // id of the last numbered event
  let over = false;
  let attempts = 0;    // to connect again
  let before = null;   // what was said before the connection was lost
  let step = "waiting";
  let began = Date.now();

  function icon(name) {
    if (data.icons && data.icons[name]) el("favicon").href = data.icons[name];
  }

  const builds = () => step === "fetching" || step === "building";

  // told is what a phase is called. Who does not look hears it once that a build takes longer than such builds do.
  const told = (phase) => words[phase] + (builds() && Standing.late() ? ". This takes longer than usual" : "");

  function show(phase, failed) {
    const at = { pushing: "building", built: "launching" }[phase] || phase;
    if (order.includes(at)) step = at;
    el("launch").dataset.phase = failed ? "failed" : step;
    if (failed || (builds() ? Standing.waits() : step !== "waiting")) Standing.tell(null);
    icon(failed ? "fail" : step === "ready" ? "success" : "building");
    const now = order.indexOf(step);
    for (const li of el("steps").children) {
      const i = order.indexOf(li.dataset.step);
      li.className = i < now || step === "ready" ? "done" : i === now ? (failed ? "failed" : "current") : "";
      if (i === now) li.setAttribute("aria-current", "step");
      else li.removeAttribute("aria-current");
    }
  }

  function say(status, detail) {
    if (el("status").textContent !== status) el("status").textContent = status;
    el("detail").textContent = detail || "";
  }

  // retell is for when a build that is said to go on has outrun what such builds take.
  function retell() {
    if (el("status").textContent === words[step]) say(told(step), el("detail").textContent);
  }

  function connect(retry) {
    const url = new URL(data.stream, location.origin);
    if (seen) url.searchParams.set("after", seen);
    if (retry) url.searchParams.set("retry", "true");
    source = new EventSource(url);
    source.onmessage = (m) => {
      attempts = 0;
      if (before) say(...before);
      before = null;
      if (m.lastEventId) {
        seen = m.lastEventId;
        for (const link of [el("btn-build"), el("btn-record")]) {
          link.href = data.builds + seen.slice(0, seen.lastIndexOf("."));
          link.hidden = false;
        }
      }
      receive(JSON.parse(m.data));
    };
    source.onerror = () => {
      source.close();
      if (over) return;
      before ||= [el("status").textContent, el("detail").textContent];
      const wait = Math.min(30, 2 ** attempts++);
      say("The connection was lost", `Connecting again in ${wait} s. Nothing is lost: the build goes on.`);
      setTimeout(() => over || connect(false), wait * 1000);
    };
  }

  function receive(e) {
    const phase = (e.phase || "").toLowerCase();
    if (phase !== "building" && phase !== "fetching") terminal.finishLine();
    if (e.message && phase !== "ready" && !e.position && !e.run) terminal.write(phase === "failed" ? briefly(e) : e.message);
    if (phase === "failed") return fail(e);
    if (phase === "ready") return arrive(e);
    if (e.run) {
      Standing.tell(e);
      return retell();
    }
    if (e.step && e.step.name && !e.message) return describe(e.step);
    if (!words[phase]) return;
    show(phase);
    if (e.position) {
      Standing.tell(e);
      if (phase === "launching") return say("Waiting for a place", "");
    }
    say(told(phase), phase === step && phase !== "waiting" ? el("detail").textContent : "");
  }

  function describe(s) {
    if (s.ended && !s.ended.startsWith("0001")) return;
    let detail = s.name;
    if (s.total > 0) detail += ` (${Math.min(100, Math.round((100 * s.current) / s.total))} %)`;
    el("detail").textContent = detail;
  }

  // parts are what happened and what a step said last, which follows it in a message.
  function parts(message) {
    const [what, ...lines] = message.trimEnd().split("\n");
    return lines.length ? [what.replace(/:$/, ""), lines.join("\n")] : [what, ""];
  }

  // briefly is a failure as the log ends with it. What a step said is in the log already.
  function briefly(e) {
    const [what, lines] = parts(e.error?.message || "");
    return lines ? what + "\n" : e.message;
  }

  function fail(e) {
    end();
    show(step, true);
    const err = e.error || {};
    say("The launch did not work", "");
    el("problem-fault").textContent = faults[err.fault] || "";
    const [what, lines] = parts(err.message || e.message || "The launch failed.");
    el("problem-message").textContent = what;
    el("problem-lines").textContent = lines;
    el("problem-lines").hidden = !lines;
    el("problem-remedy").textContent = err.remedy || "";
    el("btn-retry").textContent = err.fault === "user" && builds() ? "Build it again" : "Try again";
    el("now-actions").hidden = true;
    el("problem").hidden = false;
    el("problem").focus({ preventScroll: true });
    document.title = "Failed · " + document.title.replace(/^Failed · /, "");
  }

  function arrive(e) {
    end();
    show("ready");
    say(words.ready, "");
    const to = target(e.url, e.token);
    el("session-link").href = to;
    el("done").hidden = false;
    location.replace(to);
  }

  function end() {
    over = true;
    source.close();
  }

  // target is where in the session to go: labpath, then filepath, then urlpath, as Binder's links have them. What leads
  // out of the session is not followed: the token goes with it.
  function target(base, token) {
    const q = new URLSearchParams(location.search);
    const file = (s) => encodeURI(s.replace(/^\/+|\/+$/g, ""));
    let path = "";
    if (q.get("labpath")) path = "doc/tree/" + file(q.get("labpath"));
    else if (q.get("filepath")) path = "tree/" + file(q.get("filepath"));
    else if (q.get("urlpath")) path = q.get("urlpath").replace(/^\/+/, "");
    const home = new URL(base);
    let to = home;
    try {
      const wanted = new URL(path, home);
      if (wanted.origin === home.origin && wanted.pathname.startsWith(home.pathname)) to = wanted;
    } catch {
      // a path that is none leads to the session's own page
    }
    to.searchParams.set("token", token);
    return to.href;
  }

  el("btn-retry").onclick = () => again(true);

  function again(retry) {
    over = false;
    seen = "";
    attempts = 0;
    before = null;
    began = Date.now();
    el("problem").hidden = true;
    el("now-actions").hidden = false;
    el("btn-cancel").textContent = "Cancel";
    document.title = document.title.replace(/^Failed · /, "");
    terminal.note(retry ? "— trying again —" : "— back again —");
    show("waiting");
    Standing.tell(null);
    say("Connecting…", "");
    connect(retry);
  }
  el("btn-edit").href = data.start;
  // Whoever cancels stops to watch. The hub drops a build that nobody watches.
  el("btn-cancel").onclick = () => {
    if (over) return again(false);
    end();
    Standing.tell(null);
    el("launch").dataset.phase = "left";
    el("btn-cancel").textContent = "Launch it after all";
    say("You have left", "The build ends soon unless somebody else waits for it.");
    icon("fail");
  };
  el("btn-share").onclick = async () => {
    const was = el("btn-share").textContent;
    try {
      await navigator.clipboard.writeText(location.href);
      el("btn-share").textContent = "Copied";
    } catch {
      el("btn-share").textContent = "Copy it from the address bar";
    }
    setTimeout(() => { el("btn-share").textContent = was; }, 2000);
  };
  el("follow").onchange = () => {
    terminal.follow = el("follow").checked;
    if (terminal.follow) el("terminal").scrollTop = el("terminal").scrollHeight;
  };
  el("terminal").addEventListener("wheel", (w) => {
    if (w.deltaY < 0) terminal.follow = el("follow").checked = false;
  }, { passive: true });
  el("btn-copy-log").onclick = async () => {
    terminal.draw();
    try {
      await navigator.clipboard.writeText(terminal.text);
      el("btn-copy-log").textContent = "Copied";
    } catch {
      el("btn-copy-log").textContent = "Not allowed";
    }
    setTimeout(() => { el("btn-copy-log").textContent = "Copy"; }, 2000);
  };
  el("btn-show-log").onclick = () => {
    const hide = !el("terminal").hidden;
    el("terminal").hidden = hide;
    el("btn-show-log").textContent = hide ? "Show" : "Hide";
    el("btn-show-log").setAttribute("aria-expanded", String(!hide));
  };

  setInterval(() => {
    if (over || !source) return;
    el("elapsed").textContent = Words.clock((Date.now() - began) / 1000);
    Standing.tick();
    retell();
  }, 250);

  // A page that comes back from the browser's cache has lost its stream.
  addEventListener("pageshow", (p) => { if (p.persisted) location.reload(); });

  // A browser that guesses where its user will go runs this page ahead of him. Nothing is asked for until he comes.
  function start() {
    began = Date.now();
    connect(false);
  }
  show("waiting");
  if (document.prerendering) document.addEventListener("prerenderingchange", start, { once: true });
  else start();
})();
