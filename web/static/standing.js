// Where a build stands: its place in the queue, then how long it takes. What depends on the time is worded anew as it goes by.
"use strict";

const Standing = (() => {
  const el = (id) => document.getElementById(id);
  const status = el("status"); // where a page has one it says there that a build takes longer than usual
  let at = null; // the last one told

  function tick() {
    if (!at) return;
    const now = Date.now();
    if (!at.run) {
      el("starts").textContent = Words.starts(at.from, at.to, now);
      return;
    }
    el("ran").textContent = Words.clock(Math.max(0, now - Date.parse(at.run.since)) / 1000) + (late() && !status ? ", longer than usual" : "");
    el("done-in").textContent = Words.starts(at.run.from || at.run.since, at.run.to, now);
  }

  // late reports whether the build has run for longer than such builds do.
  function late() {
    return Boolean(at && at.run && at.run.most && Date.now() - Date.parse(at.run.since) > at.run.most / 1e6);
  }

  const waits = () => Boolean(at && !at.run);

  // tell shows where the build stands; nothing: it is not shown any more.
  function tell(st) {
    at = st && (st.position || (st.run && st.run.to)) ? st : null;
    el("standing").hidden = !at || Boolean(at.run);
    el("course").hidden = !at || !at.run;
    if (at && at.run) {
      el("takes-who").textContent = at.run.from ? "Such builds take" : "Builds here take";
      el("takes").textContent = Words.takes((at.run.least || 0) / 1e9, at.run.most / 1e9);
    } else if (at) {
      el("position").textContent = at.position === 1 ? "Next" : `Number ${at.position}`;
      el("reason").textContent = at.reason || "";
      el("reason").parentElement.hidden = !at.reason;
    }
    tick();
  }

  return { tell, tick, late, waits };
})();
