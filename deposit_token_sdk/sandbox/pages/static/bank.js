"use strict";
// What the pages do beyond plain HTML: a countdown by the bank's clock, following what happens, and copying.

const words = document.getElementById("words");
const clock = document.getElementById("countdown");
const standing = document.querySelector("[data-state]");

if (standing) {
  let left = clock ? Number(clock.dataset.left) : 0;
  let since = performance.now();
  let asking = false;
  let warned = left <= 60;

  const seconds = () => Math.max(0, Math.ceil(left - (performance.now() - since) / 1000));

  const show = () => {
    if (!clock) return;
    const now = seconds();
    const text = `${Math.floor(now / 60)} min ${String(now % 60).padStart(2, "0")} s left`;
    if (clock.textContent !== text) clock.textContent = text;
    clock.classList.toggle("short", now <= 60);
    if (now <= 60 && !warned) {
      warned = true;
      words.textContent = "One minute left at this rate.";
    }
    if (now === 0) ask();
  };

  const ask = async () => {
    if (asking) return;
    asking = true;
    try {
      const answer = await fetch(`${location.pathname}/state`, { cache: "no-store" });
      if (answer.ok) {
        const told = await answer.json();
        if (told.state !== standing.dataset.state) {
          location.replace(location.pathname);
          return;
        }
        left = told.left;
        since = performance.now();
      }
    } catch {
      // The bank does not answer: the countdown goes on by what it said last.
    }
    setTimeout(() => { asking = false; }, 1000);
  };

  show();
  setInterval(show, 250);
  setInterval(() => { if (!document.hidden) ask(); }, 5000);
  document.addEventListener("visibilitychange", () => { if (!document.hidden) ask(); });
}

for (const button of document.querySelectorAll("button[data-copy]")) {
  button.hidden = false;
  button.addEventListener("click", async () => {
    const source = document.getElementById(button.dataset.copy);
    const said = document.getElementById(button.dataset.said);
    said.textContent = "";
    try {
      await navigator.clipboard.writeText(source.textContent);
      said.textContent = "Copied.";
    } catch {
      getSelection().selectAllChildren(source);
      said.textContent = "Copying is not allowed here. It is selected: press Ctrl+C.";
    }
  });
}
