// Words for durations and starts, as the hub itself says them.
"use strict";

const Words = {
  // of is a duration in seconds.
  of(s) {
    const minutes = Math.floor(s / 60);
    const seconds = Math.floor(s) % 60;
    if (s < 0.05) return "0 s";
    if (s < 10) return s.toFixed(1) + " s";
    if (s < 60) return seconds + " s";
    if (s < 600 && seconds > 0) return `${minutes} min ${seconds} s`;
    if (s < 3600) return `${minutes} min`;
    return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
  },

  // clock is an elapsed time, to be looked at while it runs.
  clock(s) {
    const two = (n) => String(n).padStart(2, "0");
    const h = Math.floor(s / 3600);
    const m = Math.floor(s / 60) % 60;
    return (h ? h + ":" + two(m) : m) + ":" + two(Math.floor(s) % 60);
  },

  // takes says how long something takes that takes between two times in seconds, in nine cases of ten.
  takes(least, most) {
    const [unit, name, step] = most < 90 ? [1, "seconds", 10] : most < 5400 ? [60, "minutes", 1] : [3600, "hours", 1];
    const a = most > 4 * least ? 0 : Math.floor(least / unit / step) * step;
    const b = Math.max(Math.ceil(most / unit / step) * step, step);
    return a >= b ? `about ${b} ${name}` : a === 0 ? `up to ${b} ${name}` : `${a} to ${b} ${name}`;
  },

  // starts says when something begins that begins between two times, in nine cases of ten.
  starts(from, to, now) {
    if (!to || to.startsWith("0001")) return "nobody can say yet";
    const t = Math.max(0, (Date.parse(to) - now) / 1000);
    let f = (Date.parse(from) - now) / 1000;
    if (f < 60 || t > 4 * f) f = 0; // no time to plan by
    const span = (a, b, unit) => (a >= b ? `in about ${b} ${unit}` : a === 0 ? `within ${b} ${unit}` : `in ${a} to ${b} ${unit}`);
    if (t < 10) return "in a few seconds";
    if (t < 90) return `within ${Math.ceil(t / 10) * 10} seconds`;
    if (t < 5400) return span(Math.floor(f / 60), Math.ceil(t / 60), "minutes");
    return span(Math.floor(f / 3600), Math.ceil(t / 3600), "hours");
  },
};
