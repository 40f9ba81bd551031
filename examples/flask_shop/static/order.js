// Keeps the status of an order current while its page is open, and asks at once when the page is looked at again.
"use strict";

(() => {
  const panel = document.getElementById("status");
  const news = document.getElementById("news");
  const opened = Date.now();
  let mark = panel.dataset.mark;
  let timer = null;
  let asking = false;

  const pause = () => Math.min(10000, 1500 + (Date.now() - opened) / 60);

  function later() {
    clearTimeout(timer);
    timer = setTimeout(ask, pause());
  }

  function show(answer) {
    if (answer.mark === mark) return;
    mark = answer.mark;
    panel.innerHTML = answer.html;
    news.textContent = panel.querySelector(".headline").textContent;
  }

  async function ask() {
    if (asking || document.hidden) return;
    asking = true;
    clearTimeout(timer);
    try {
      const answer = await fetch(panel.dataset.source, { headers: { Accept: "application/json" } });
      if (answer.ok) {
        const told = await answer.json();
        show(told);
        if (told.final) return;
      }
    } catch {
      // No answer this time; the next one will tell.
    } finally {
      asking = false;
    }
    later();
  }

  document.addEventListener("visibilitychange", ask);
  window.addEventListener("pageshow", (event) => { if (event.persisted) ask(); });
  later();
})();
