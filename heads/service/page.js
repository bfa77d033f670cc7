"use strict";
(() => {
  const about = JSON.parse(document.getElementById("about").textContent);
  const $ = (id) => document.getElementById(id);
  const FIRST = 10; // classes shown before the rest is asked for
  const kinds = { image: "image/", audio: "audio/" };
  const files = {};

  const size = (bytes) => bytes < 1e6 ? `${Math.ceil(bytes / 1e3)} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
  const fail = (text) => { $("error").textContent = text; $("error").hidden = !text; };

  // One zone a field: a chosen or dropped file, shown as the browser can show it.
  const zones = [...document.querySelectorAll(".zone")].map((zone) => {
    const field = zone.dataset.field, input = zone.querySelector("input");
    const preview = zone.querySelector(".preview"), told = zone.querySelector(".told");
    const clear = zone.querySelector(".clear");
    let address = "";
    const put = (file) => {
      fail("");
      if (address) URL.revokeObjectURL(address);
      address = file ? URL.createObjectURL(file) : "";
      if (file) files[field] = file; else delete files[field];
      zone.classList.toggle("full", Boolean(file));
      clear.hidden = preview.hidden = !file;
      told.textContent = file ? size(file.size) : "";
      if (file) {
        preview.src = address;
        if (field === "image") preview.alt = `The chosen picture, ${file.name}`;
      } else {
        preview.removeAttribute("src");
        if (preview.load) preview.load();
        input.value = "";
      }
    };
    const say = (more) => { if (files[field]) told.textContent = `${more}, ${size(files[field].size)}`; };
    preview.addEventListener("load", () => say(`${preview.naturalWidth} × ${preview.naturalHeight} pixels`));
    preview.addEventListener("loadedmetadata", () => {
      if (isFinite(preview.duration)) say(`${preview.duration.toFixed(1)} s`);
    });
    preview.addEventListener("error", () => {
      if (!files[field]) return;
      preview.hidden = true;
      say("no preview in this browser");
    });
    input.addEventListener("change", () => { if (input.files.length) put(input.files[0]); });
    clear.addEventListener("click", () => { put(null); input.focus(); });
    zone.addEventListener("dragenter", () => zone.classList.add("over"));
    zone.addEventListener("dragleave", (event) => {
      if (!zone.contains(event.relatedTarget)) zone.classList.remove("over");
    });
    const drop = (file) => {
      const one = new DataTransfer(); // so that the input names the dropped file too
      one.items.add(file);
      input.files = one.files;
      put(file);
    };
    return { field, zone, drop };
  });

  // Whatever is dropped anywhere goes to the zone of its kind; a file of no known kind to the zone
  // it was dropped on. The browser must not open it instead.
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("drop", (event) => {
    event.preventDefault();
    zones.forEach((one) => one.zone.classList.remove("over"));
    for (const file of event.dataTransfer.files) {
      const target = zones.find((one) => file.type.startsWith(kinds[one.field]))
        || zones.find((one) => one.zone.contains(event.target));
      if (target) target.drop(file); else fail(`${file.name} is no kind of file that this model takes`);
    }
  });

  const percent = (p) => {
    if (p > 0 && p < 0.001) return "< 0.1 %";
    return p > 0.999 && p < 1 ? "> 99.9 %" : `${(100 * p).toFixed(1)} %`;
  };
  const line = ([name, p], i) => {
    const row = document.createElement("tr"), head = document.createElement("th");
    const middle = document.createElement("td"), right = document.createElement("td");
    const bar = document.createElement("span"), filled = document.createElement("span");
    head.scope = "row";
    head.textContent = name;
    row.classList.toggle("first", i === 0);
    bar.className = "bar";
    filled.style.width = `${100 * p}%`;
    bar.append(filled);
    middle.setAttribute("aria-hidden", "true");
    middle.append(bar);
    right.textContent = percent(p);
    row.append(head, middle, right);
    row.hidden = i >= FIRST;
    return row;
  };
  const show = (said) => {
    const number = about.target === "number";
    const ranked = Object.entries(said.probabilities ?? {}).sort((a, b) => b[1] - a[1]);
    $("bars").replaceChildren(...ranked.map(line));
    $("bars").parentNode.hidden = number;
    $("said").className = "found";
    $("said").textContent = "";
    const name = document.createElement("strong");
    name.textContent = number ? Number(said.prediction.toPrecision(6)).toLocaleString("en", { maximumSignificantDigits: 6 }) : said.prediction;
    const sure = number ? "" : `, ${percent(said.confidence)} sure`;
    const others = said.set?.filter((one) => one !== said.prediction) ?? [];
    const doubt = said.set === undefined || (said.set.length === 1 && !others.length) ? ""
      : said.set.length ? `, or ${others.join(", ")}` : ", like no class it knows";
    $("said").append(name, `${sure}${doubt}, in ${said.seconds.toFixed(2)} s`);
    $("more").hidden = ranked.length <= FIRST;
    $("more").textContent = `Show all ${ranked.length.toLocaleString("en")} classes`;
  };
  $("more").addEventListener("click", () => {
    for (const row of $("bars").rows) row.hidden = false;
    $("more").hidden = true;
  });

  $("form").addEventListener("submit", async (event) => {
    event.preventDefault();
    fail("");
    if (!about.enough.some((fields) => fields.every((f) => files[f]))) {
      const lacking = about.enough[0].filter((f) => !files[f]);
      fail(`Choose ${lacking.map((f) => (f === "image" ? "a picture" : "a sound")).join(" and ")} first.`);
      zones.find((one) => one.field === lacking[0]).zone.querySelector("input").focus();
      return;
    }
    const body = new FormData(), given = zones.filter((one) => files[one.field]);
    for (const one of given) body.append(one.field, files[one.field], one.field);
    const bytes = given.reduce((sum, one) => sum + files[one.field].size, 0);
    if (bytes > about.limits.megabytes * 1e6) {
      fail(`${size(bytes)} are more than the ${about.limits.megabytes} MB of a request.`);
      return;
    }
    $("ask").disabled = true;
    $("state").textContent = "Asking …";
    try {
      const answer = await fetch("predict", { method: "POST", body });
      const said = await answer.json();
      if (answer.ok) show(said); else fail(said.error.message);
    } catch (error) {
      fail(`No answer: ${error.message}`);
    } finally {
      $("ask").disabled = false;
      $("state").textContent = "";
    }
  });

  $("curl").textContent = `curl ${about.inputs.map((f) => `-F ${f}=@${f === "image" ? "picture.jpg" : "sound.wav"}`).join(" ")} ${new URL("predict", location.href)}`;

  // The theme follows the system until it is asked for.
  $("theme").addEventListener("click", () => {
    const root = document.documentElement;
    const dark = root.dataset.theme
      ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
  });
})();
