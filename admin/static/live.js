// Pages that look at themselves: every two seconds, while somebody looks at them and nobody is about to do something
// there, the page is asked for again and what has changed is put in. A button stops that.
"use strict";

(() => {
  const toggle = document.getElementById("live-toggle");
  const note = document.getElementById("live-note");
  if (!toggle) return;
  toggle.hidden = false;
  let on = true;

  toggle.addEventListener("click", () => {
    on = !on;
    toggle.setAttribute("aria-pressed", String(on));
    if (on) look();
  });

  const busy = () => {
    const box = document.getElementById("live");
    return box.querySelector("details[open]") || box.contains(document.activeElement) || !getSelection().isCollapsed;
  };

  async function look() {
    if (!on || document.hidden || busy()) return;
    let text;
    try {
      const answer = await fetch(location.href, { headers: { "X-Live": "1" }, credentials: "same-origin" });
      if (answer.redirected || answer.status === 403) {
        note.textContent = "You are signed out; load the page again.";
        on = false;
        return;
      }
      if (!answer.ok) throw new Error(String(answer.status));
      text = await answer.text();
    } catch {
      note.textContent = "The hub does not answer; this is what it said last.";
      return;
    }
    if (!on || busy()) return;
    const page = new DOMParser().parseFromString(text, "text/html");
    const now = page.getElementById("live");
    const box = document.getElementById("live");
    if (now && now.innerHTML !== box.innerHTML) {
      const at = [...box.querySelectorAll(".scroll")].map((x) => x.scrollLeft);
      box.replaceWith(document.adoptNode(now));
      [...document.getElementById("live").querySelectorAll(".scroll")].forEach((x, i) => { x.scrollLeft = at[i] || 0; });
    }
    note.textContent = "As of " + new Date().toISOString().slice(0, 19).replace("T", " ");
  }

  setInterval(look, 2000);
  document.addEventListener("visibilitychange", look);
})();
