
"use strict";
(() => {
  // include shared.js

  for (const code of document.querySelectorAll(".command code")) code.after(copyButton(code));

  // ---- samples over time
  const frames = [...document.querySelectorAll(".frames img")];
  if (frames.length) {
    const slider = document.getElementById("moment");
    const play = document.getElementById("play");
    const when = document.getElementById("when");
    let timer = 0;
    function show(index) {
      frames.forEach((frame, i) => frame.classList.toggle("now", i === index));
      when.textContent = frames[index].dataset.label;
      if (slider) {
        slider.value = String(index);
        slider.setAttribute("aria-valuetext", frames[index].dataset.label);
      }
    }
    function stop() {
      clearTimeout(timer);
      timer = 0;
      if (play) play.textContent = "Play";
    }
    function step() {
      const next = (Number(slider.value) + 1) % frames.length;
      show(next);
      timer = setTimeout(step, next === frames.length - 1 ? 2000 : 400);
    }
    function start() {
      play.textContent = "Pause";
      timer = setTimeout(step, 400);
    }
    show(frames.length - 1);
    if (slider) {
      slider.addEventListener("input", () => { stop(); show(Number(slider.value)); });
      play.addEventListener("click", () => { if (timer) stop(); else start(); });
      if (!matchMedia("(prefers-reduced-motion: reduce)").matches) start();
    }
  }

  // ---- codes
  const plots = [...document.querySelectorAll(".codes")];
  const methods = [...document.querySelectorAll(".methods button")];
  function choose(method) {
    for (const plot of plots) plot.hidden = plot.dataset.method !== method;
    for (const button of methods) button.setAttribute("aria-pressed", String(button.dataset.method === method));
  }
  if (methods.length) choose("0");
  for (const button of methods) button.addEventListener("click", () => choose(button.dataset.method));
  const legend = [...document.querySelectorAll(".legend button")];
  for (const button of legend) {
    button.addEventListener("click", () => {
      button.setAttribute("aria-pressed", String(button.getAttribute("aria-pressed") !== "true"));
      const chosen = new Set(legend.filter((b) => b.getAttribute("aria-pressed") === "true").map((b) => b.dataset.c));
      for (const path of document.querySelectorAll(".codes path")) {
        path.classList.toggle("dim", chosen.size > 0 && !chosen.has(path.dataset.c));
      }
    });
  }
})();
