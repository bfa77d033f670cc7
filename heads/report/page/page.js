"use strict";
(() => {
  const $ = (q, from = document) => [...from.querySelectorAll(q)];
  const data = JSON.parse(document.getElementById("data").textContent);

  // Pictures are put in when they come near the window.
  const show = (img) => { img.src = data.pictures[img.dataset.picture]; };
  const near = new IntersectionObserver((seen) => {
    for (const one of seen) if (one.isIntersecting) { show(one.target); near.unobserve(one.target); }
  }, { rootMargin: "400px" });
  $("img[data-picture]").forEach((img) => near.observe(img));

  // Printing shows all but the charts' numbers, and leaves the page as it was.
  let closed = [];
  addEventListener("beforeprint", () => {
    $("img[data-picture]").forEach(show);
    closed = $("section > details:not([open])");
    closed.forEach((d) => { d.open = true; });
  });
  addEventListener("afterprint", () => closed.forEach((d) => { d.open = false; }));

  // Sorting: a header's button, numbers largest first or smallest first.
  const sort = (th) => {
    const down = th.getAttribute("aria-sort") === "ascending";
    const table = th.closest("table"), column = [...th.parentNode.children].indexOf(th);
    const number = th.dataset.sort === "number";
    const key = (row) => {
      const cell = row.children[column];
      if (!number) return cell.textContent;
      return cell.dataset.value ? Number(cell.dataset.value) : NaN;
    };
    const order = (a, b) => {
      const x = key(a), y = key(b);
      if (!number) return (down ? -1 : 1) * x.localeCompare(y, undefined, { numeric: true });
      if (isNaN(x) || isNaN(y)) return isNaN(x) - isNaN(y); // what has no number comes last
      return down ? y - x : x - y;
    };
    $("th", table.tHead).forEach((h) => h.removeAttribute("aria-sort"));
    th.setAttribute("aria-sort", down ? "descending" : "ascending");
    table.tBodies[0].append(...[...table.tBodies[0].rows].sort(order));
  };
  $("th[data-sort] button").forEach((b) => b.addEventListener("click", () => sort(b.parentNode)));

  // Filtering.
  const filter = (box, things, text, told) => {
    const words = box.value.toLowerCase().split(/\s+/).filter(Boolean);
    let left = 0;
    for (const thing of things) {
      thing.hidden = !words.every((w) => text(thing).includes(w));
      left += !thing.hidden;
    }
    told.textContent = words.length ? `${left} of ${things.length}` : "";
  };
  $("input[data-rows]").forEach((box) => {
    const rows = [...document.getElementById(box.dataset.rows).tBodies[0].rows];
    const told = document.querySelector(`[data-count="${box.dataset.rows}"]`);
    box.addEventListener("input", () => filter(box, rows, (r) => r.textContent.toLowerCase(), told));
  });
  const find = document.getElementById("find"), cards = $(".card");
  find.addEventListener("input", () => {
    filter(find, cards, (c) => c.dataset.find, document.getElementById("found"));
    $(".group").forEach((g) => { g.hidden = !g.querySelector(".card:not([hidden])"); });
    maps.forEach((map) => map.refresh());
  });

  // Playing: one sound at a time.
  const player = new Audio();
  let playing = null;
  const stop = () => {
    if (!playing) return;
    playing.setAttribute("aria-pressed", "false");
    playing.querySelector(".sign").textContent = "▶";
    playing = null;
    player.pause();
  };
  player.addEventListener("ended", stop);
  $(".play").forEach((button) => {
    const [uri, , bars, cut] = data.sounds[button.dataset.sound];
    const ns = "http://www.w3.org/2000/svg", wave = document.createElementNS(ns, "svg");
    const path = document.createElementNS(ns, "path");
    path.setAttribute("d", [...bars].map((b, i) => `M${2 * i + 1} ${10 - b}v${2 * b + 0.5}`).join(""));
    path.setAttribute("stroke", "currentColor");
    wave.setAttribute("viewBox", `0 0 ${2 * bars.length} 20`);
    wave.setAttribute("preserveAspectRatio", "none");
    wave.setAttribute("aria-hidden", "true");
    wave.append(path);
    button.querySelector(".sign").after(wave);
    if (cut) button.title = "the beginning of a longer sound";
    button.addEventListener("click", () => {
      const again = playing === button;
      stop();
      if (again) return;
      playing = button;
      button.setAttribute("aria-pressed", "true");
      button.querySelector(".sign").textContent = "■";
      player.src = uri;
      player.play().catch((error) => {
        if (playing !== button) return; // another was pressed while this one was still loading
        stop();
        button.title = `cannot be played: ${error.message}`;
      });
    });
  });

  // Maps: the nearest dot under the pointer, or the next one by arrow key.
  const hover = document.getElementById("hover");
  const mapOf = (box) => {
    const figure = box.closest("figure"), told = figure.querySelector(".told");
    const dots = $("g[id*='-class'] use", box);
    const items = box.dataset.points.split(",").map(Number), codes = box.dataset.codes.split(",");
    const at = dots.map((d) => [d.x.baseVal.value, d.y.baseVal.value]);
    const away = new Set();
    let chosen = -1;
    const choose = (i) => {
      if (chosen >= 0) dots[chosen].classList.remove("chosen");
      chosen = i;
      if (i < 0) { hover.hidden = true; return; }
      const [id, label] = data.items[items[i]], uri = data.pictures[items[i]];
      dots[i].classList.add("chosen");
      told.textContent = `${id}: ${label}`;
      hover.replaceChildren();
      if (uri) { const img = new Image(); img.src = uri; img.alt = ""; hover.append(img); }
      hover.append(`${id}: ${label}`);
      hover.hidden = false;
      const spot = dots[i].getBoundingClientRect();
      const left = spot.right + 150 > innerWidth ? spot.left - hover.offsetWidth - 8 : spot.right + 8;
      hover.style.left = `${Math.max(left, 4)}px`;
      hover.style.top = `${Math.max(Math.min(spot.top, innerHeight - hover.offsetHeight - 8), 4)}px`;
    };
    const shown = (i) => !dots[i].classList.contains("away");
    const point = (event) => {
      const svg = box.querySelector("svg"), m = svg.getScreenCTM().inverse();
      const p = new DOMPoint(event.clientX, event.clientY).matrixTransform(m);
      let best = -1, nearest = 14 * 14;
      at.forEach(([x, y], i) => {
        const d = (x - p.x) ** 2 + (y - p.y) ** 2;
        if (d < nearest && shown(i)) { nearest = d; best = i; }
      });
      if (best !== chosen) choose(best);
    };
    const steps = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 };
    box.addEventListener("pointermove", point);
    box.addEventListener("pointerdown", point);
    box.addEventListener("pointerleave", () => choose(-1));
    box.addEventListener("blur", () => choose(-1));
    box.addEventListener("keydown", (event) => {
      const step = steps[event.key];
      if (event.key === "Escape") choose(-1);
      if (!step) return;
      event.preventDefault();
      let i = chosen < 0 && step < 0 ? 0 : chosen;
      for (let tries = 0; tries < dots.length; tries++) {
        i = (i + step + dots.length) % dots.length;
        if (shown(i)) { choose(i); return; }
      }
    });
    const refresh = () => {
      const words = find.value.toLowerCase().split(/\s+/).filter(Boolean);
      dots.forEach((dot, i) => {
        const text = data.items[items[i]].join(" ").toLowerCase();
        dot.classList.toggle("away", away.has(codes[i]) || !words.every((w) => text.includes(w)));
      });
    };
    $(".keys button", figure).forEach((key) => key.addEventListener("click", () => {
      const code = key.dataset.class, on = away.has(code);
      if (on) away.delete(code); else away.add(code);
      key.setAttribute("aria-pressed", String(on));
      refresh();
    }));
    return { refresh };
  };
  const maps = $(".map").map(mapOf);

  // The theme follows the system until it is asked for.
  document.getElementById("theme").addEventListener("click", () => {
    const root = document.documentElement;
    const dark = root.dataset.theme
      ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
  });
})();
