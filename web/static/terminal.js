// A Terminal shows the text of a log: lines, carriage returns that write a line again, colours. Text is only ever set
// as text, never as markup.
"use strict";

class Terminal {
  static maxLines = 20000;

  constructor(root) {
    this.root = root;
    this.follow = true;
    this.text = "";      // of the whole log, without colours, to be copied
    this.style = "";     // classes of what comes next
    this.pending = "";   // an escape sequence that is not complete yet
    this.line = null;    // the element of the open line
    this.runs = [];      // its runs: {text, style}
    this.redraw = false;
    this.fresh = false;  // a carriage return came: the next text replaces the line
    this.drawn = null;   // frame that will draw
    this.queue = [];     // lines that are complete but not drawn
  }

  write(s) {
    s = this.pending + s;
    this.pending = "";
    const cut = s.match(/\x1b(\[[0-9;?]*)?$/);
    if (cut) {
      this.pending = cut[0].length < 64 ? cut[0] : "";
      s = s.slice(0, cut.index);
    }
    const tokens = s.match(/\x1b\[[0-9;?]*[ -\/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b.|\r\n|[\r\n]|[^\x1b\r\n]+/g) || [];
    for (const t of tokens) this.token(t);
    this.schedule();
  }

  token(t) {
    if (t === "\n" || t === "\r\n") {
      this.endLine();
    } else if (t === "\r") {
      this.fresh = true;
    } else if (t[0] === "\x1b") {
      if (/^\x1b\[[0-9;]*m$/.test(t)) this.sgr(t.slice(2, -1));
      else if (/^\x1b\[[012]?K$/.test(t)) this.runs = t === "\x1b[0K" || t === "\x1b[K" ? this.runs : [];
    } else {
      this.put(t.replace(/[\x00-\x08\x0b-\x1f\x7f]/g, ""));
    }
  }

  put(text) {
    if (text === "") return;
    if (this.fresh) {
      this.runs = [];
      this.fresh = false;
    }
    const last = this.runs[this.runs.length - 1];
    if (last && last.style === this.style) last.text += text;
    else this.runs.push({ text, style: this.style });
    this.redraw = true;
  }

  endLine() {
    this.queue.push(this.runs);
    this.runs = [];
    this.fresh = false;
    this.redraw = true;
  }

  sgr(params) {
    const set = new Map(this.style.split(" ").filter(Boolean).map((c) => [c[0] === "f" || c[0] === "k" ? c[0] : c, c]));
    const codes = params.split(";").map(Number);
    for (let i = 0; i < codes.length; i++) {
      const n = codes[i];
      if (n === 0) set.clear();
      else if (n === 1) set.set("b", "b");
      else if (n === 2) set.set("d", "d");
      else if (n === 3) set.set("i", "i");
      else if (n === 4) set.set("u", "u");
      else if (n === 22) { set.delete("b"); set.delete("d"); }
      else if (n === 23) set.delete("i");
      else if (n === 24) set.delete("u");
      else if (n >= 30 && n <= 37) set.set("f", "f" + (n - 30));
      else if (n >= 90 && n <= 97) set.set("f", "f" + (n - 90));
      else if (n === 39) set.delete("f");
      else if (n >= 40 && n <= 47) set.set("k", "k" + (n - 40));
      else if (n >= 100 && n <= 107) set.set("k", "k" + (n - 100));
      else if (n === 49) set.delete("k");
      else if (n === 38 || n === 48) {
        const which = n === 38 ? "f" : "k";
        if (codes[i + 1] === 5) {
          set.delete(which);
          if (codes[i + 2] < 16) set.set(which, which + (codes[i + 2] % 8));
          i += 2;
        } else if (codes[i + 1] === 2) {
          set.delete(which);
          i += 4;
        }
      }
    }
    this.style = [...set.values()].join(" ");
  }

  schedule() {
    if (this.drawn === null) {
      this.drawn = setTimeout(() => { this.drawn = null; this.draw(); }, 30);
    }
  }

  draw() {
    if (!this.redraw) return;
    this.redraw = false;
    const part = document.createDocumentFragment();
    for (const runs of this.queue) {
      this.text += runs.map((r) => r.text).join("") + "\n";
      if (this.line) {
        this.fill(this.line, runs);
        this.line = null;
      } else {
        part.append(this.fill(document.createElement("div"), runs));
      }
    }
    this.queue = [];
    this.root.append(part);
    if (this.runs.length) {
      if (!this.line) {
        this.line = document.createElement("div");
        this.root.append(this.line);
      }
      this.fill(this.line, this.runs);
    }
    while (this.root.childElementCount > Terminal.maxLines) this.root.firstElementChild.remove();
    if (this.follow) this.root.scrollTop = this.root.scrollHeight;
  }

  fill(el, runs) {
    el.className = "line";
    el.replaceChildren(...runs.map((r) => {
      if (!r.style) return document.createTextNode(r.text);
      const span = document.createElement("span");
      span.className = r.style;
      span.textContent = r.text;
      return span;
    }));
    return el;
  }

  finishLine() {
    if (this.runs.length) this.endLine();
  }

  // A note is said by the page, not by the build.
  note(text) {
    this.finishLine();
    this.write("\x1b[2m" + text + "\x1b[0m\n");
  }
}
