// Keeps the status of an order current while its page is open, and asks at once when the page is looked at again.
// The countdown goes by the shop's clock: each answer brings the seconds left, and this only counts them down.
"use strict";

(() => {
  const panel = document.getElementById("status");
  const news = document.getElementById("news");
  const opened = Date.now();
  const MILESTONES = [300, 60];
  let mark = panel.dataset.mark;
  let timer = null;
  let asking = false;
  let over = null; // when the lock is over, by this computer's clock, which need not be right
  let said = Infinity;
  let woke = -Infinity; // when the page was looked at again

  document.documentElement.classList.add("scripted");

  const pause = () => Math.min(10000, 1500 + (Date.now() - opened) / 60);
  const left = () => Math.max(0, Math.ceil((over - Date.now()) / 1000));

  function later() {
    clearTimeout(timer);
    timer = setTimeout(ask, pause());
  }

  function lockedFor(seconds) {
    over = Date.now() + seconds * 1000;
    if (said === Infinity) said = Math.min(said, ...MILESTONES.filter((milestone) => seconds < milestone));
    tick();
  }

  function tick() {
    const countdown = document.getElementById("countdown");
    if (!countdown || over === null) return;
    const seconds = left();
    const text = `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
    if (countdown.textContent !== text) countdown.textContent = text;
    panel.querySelector(".lock-running").hidden = seconds === 0;
    panel.querySelector(".lock-over").hidden = seconds !== 0;
    announce(seconds);
  }

  function announce(seconds) {
    for (const milestone of [...MILESTONES, 0]) {
      if (seconds <= milestone && milestone < said) {
        said = milestone;
        if (seconds > milestone - 30) news.textContent = news.getAttribute(`data-say-${milestone}`);
        if (milestone === 0) ask();
      }
    }
  }

  function show(answer) {
    if (answer.mark !== mark) {
      const within = panel.contains(document.activeElement);
      mark = answer.mark;
      panel.innerHTML = answer.html;
      const headline = panel.querySelector(".headline");
      news.textContent = headline.textContent;
      headline.tabIndex = -1;
      if (within) headline.focus();
    }
    if (answer.left === null) over = null;
    else lockedFor(answer.left);
  }

  // A price that has run out is asked anew for who looks at the page, once a minute at most.
  function renew() {
    const form = panel.querySelector("form[data-renew]");
    if (!form || document.hidden) return;
    const key = `renewed ${panel.dataset.source}`;
    if (Date.now() - Number(sessionStorage.getItem(key)) < 60000) return;
    sessionStorage.setItem(key, String(Date.now()));
    form.submit();
  }

  async function ask(event) {
    if (document.hidden) return;
    if (event) woke = Date.now();
    if (asking) return;
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
    if (Date.now() - woke < 15000) renew();
    later();
  }

  async function copy(button) {
    const copied = document.getElementById("copied");
    let told = button.dataset.copied;
    try {
      await navigator.clipboard.writeText(button.dataset.copy);
    } catch {
      told = copied.dataset.not;
    }
    copied.textContent = told;
  }

  panel.addEventListener("click", (event) => {
    const button = event.target.closest("[data-copy]");
    if (button) copy(button);
  });
  document.addEventListener("visibilitychange", ask);
  window.addEventListener("pageshow", (event) => { if (event.persisted) ask(event); });
  const countdown = document.getElementById("countdown");
  if (countdown) lockedFor(Number(countdown.dataset.left));
  setInterval(tick, 500);
  renew();
  later();
})();
