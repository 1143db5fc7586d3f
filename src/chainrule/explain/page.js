"use strict";
// Steps through the frames: values forward, then gradients backward. Nothing is loaded and nothing is sent.
(() => {
  const { frames, details } = JSON.parse(document.getElementById("frames").textContent);
  const byId = (id) => document.getElementById(id);
  const panel = byId("panel"), place = byId("place"), count = byId("count");
  const nodes = [...document.querySelectorAll(".graph .node")];
  const edges = [...document.querySelectorAll(".graph .edge")];
  const forwards = frames.filter((frame) => frame.kind === "forward").length;
  let at = 0;
  place.max = frames.length - 1;

  function show(step, say = true) {
    at = Math.max(0, Math.min(frames.length - 1, step));
    const made = new Set(), returned = new Set(), came = new Set();
    frames.slice(0, at + 1).forEach((frame) => {
      (frame.kind === "forward" ? made : returned).add(frame.node);
      if (frame.kind === "backward") frame.edges.forEach((edge) => came.add("e" + edge));
    });
    const now = frames[at];
    const current = new Set(now.edges.map((edge) => "e" + edge));
    for (const node of nodes) {
      const rest = node.classList.contains("repeat");
      node.classList.toggle("waiting", !made.has(node.id) && !(rest && at >= forwards - 1));
      node.classList.toggle("returned", returned.has(node.id) || forwards === frames.length);
      node.classList.toggle("now", node.id === now.node);
    }
    for (const edge of edges) {
      const end = edge.dataset.to;
      edge.classList.toggle("waiting", !made.has(end) && !(end.startsWith("r") && at >= forwards - 1));
      edge.classList.toggle("returned", came.has(edge.id) || (at === frames.length - 1 && forwards < frames.length));
      edge.classList.toggle("now", current.has(edge.id));
    }
    if (say) tell(now.node, now.kind);
    place.value = at;
    const back = now.kind === "backward";
    const text = back ? `backward ${at - forwards + 1} of ${frames.length - forwards}` : `forward ${at + 1} of ${forwards}`;
    count.textContent = text;
    place.setAttribute("aria-valuetext", text);
    byId("first").disabled = byId("previous").disabled = at === 0;
    byId("next").disabled = byId("last").disabled = at === frames.length - 1;
    reveal(byId(now.node));
  }

  function tell(id, kind) {
    const told = details[id];
    if (told) panel.innerHTML = kind === "backward" && told.backward ? told.backward : told.forward;
  }

  function reveal(node) {
    const frame = node.closest(".scroll"), box = node.getBoundingClientRect(), view = frame.getBoundingClientRect();
    if (box.top < view.top) frame.scrollTop += box.top - view.top - 20;
    if (box.bottom > view.bottom) frame.scrollTop += box.bottom - view.bottom + 20;
    if (box.left < view.left) frame.scrollLeft += box.left - view.left - 20;
    if (box.right > view.right) frame.scrollLeft += box.right - view.right + 20;
  }

  function open(node) {
    const told = details[node.id];
    if (told) panel.innerHTML = told.forward + told.backward;
  }

  byId("first").onclick = () => show(0);
  byId("previous").onclick = () => show(at - 1);
  byId("next").onclick = () => show(at + 1);
  byId("last").onclick = () => show(frames.length - 1);
  place.oninput = () => show(Number(place.value));
  const stage = document.querySelector(".stage");
  byId("fit").onclick = () => {
    const fit = stage.classList.toggle("fit");
    byId("fit").setAttribute("aria-pressed", fit);
    reveal(byId(frames[at].node));
  };
  byId("theme").onclick = () => {
    const dark = matchMedia("(prefers-color-scheme: dark)").matches;
    const theme = document.documentElement.dataset.theme || (dark ? "dark" : "light");
    document.documentElement.dataset.theme = theme === "dark" ? "light" : "dark";
  };
  for (const node of nodes) {
    if (!details[node.id]) continue;
    node.setAttribute("tabindex", "0");
    node.setAttribute("role", "button");
    node.addEventListener("click", () => open(node));
    node.addEventListener("keydown", (event) => {
      if (event.key === "Enter" || event.key === " ") { event.preventDefault(); event.stopPropagation(); open(node); }
    });
  }
  document.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey || event.target === place) return;
    const go = { ArrowRight: at + 1, ArrowDown: at + 1, ArrowLeft: at - 1, ArrowUp: at - 1, Home: 0, End: frames.length - 1 };
    if (event.key in go) { event.preventDefault(); show(go[event.key]); }
  });
  show(0);
})();
